// Every allocation of an operation fails once: the operation says so or does with less, leaks
// nothing, leaves the tables whole, and succeeds when memory is there again.

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "mmu_core/testing/tdp_guest.h"

namespace mmu::testing {
namespace {

constexpr Gpa kPage{0x40'3000}, kLarge{0x80'0000};

struct Operation {
  std::string name;
  std::function<void(TdpGuest&)> run;
};
const Operation kOperations[] = {
    {"Access", [](TdpGuest& g) { g.write(kPage); }},
    {"LogThatSplits", [](TdpGuest& g) { g.set_flags(0, false, true); }},
    {"AccessThatSplits", [](TdpGuest& g) { g.fetch(kLarge + 0x3000); }},
    {"Smm",
     [](TdpGuest& g) {
       g.cpu().set_smm(true);
       g.cpu().enter();
       g.cpu().set_smm(false);
     }},
    {"ZapAll",
     [](TdpGuest& g) {
       g.vm().zap_all();
       g.read(kLarge);
     }},
    {"Prefault", [](TdpGuest& g) { g.cpu().prefault(Gpa{0}, 1500); }},
    {"Private",
     [](TdpGuest& g) {
       g.vm().set_private(Gfn::of(kPage), 1, true);
       g.read(kPage);
     }},
    {"NewVcpu",
     [](TdpGuest& g) {
       g.vm().recreate_vcpu(0, Sregs{cr0::kPe, 0, 0, 0});
       g.cpu().enter();
     }},
};

class TdpAllocFailure : public ::testing::TestWithParam<TdpMachine> {
 protected:
  static void exhaust(const Operation& op, LimitedPages RecordingPlatform::*source) {
    VmConfig c = GetParam().config();
    c.options.eager_split = c.options.nx_huge_pages = c.options.dirty_ring = true;
    if (GetParam().ept()) c.shared_bit = kSharedBit;
    const Gpa shared{c.shared_bit};
    for (u64 n = 0; n < 20; ++n) {
      TdpGuest g(GetParam(), c);
      g.back_large(kLarge, 2);
      g.read(kLarge + shared.raw);
      g.platform.*source = LimitedPages(n);
      op.run(g);
      g.audit();
      g.platform.*source = LimitedPages();
      EXPECT_EQ(g.read(kLarge + shared.raw), g.reaches(kLarge)) << op.name << ", " << n << " left";
    }
  }
};
INSTANTIATE_TEST_SUITE_P(, TdpAllocFailure, ::testing::ValuesIn(kTdpMachines), tdp_name);

TEST_P(TdpAllocFailure, OfATable) {
  for (const Operation& op : kOperations) exhaust(op, &RecordingPlatform::table_source);
}

TEST_P(TdpAllocFailure, OfAnObject) {
  for (const Operation& op : kOperations) exhaust(op, &RecordingPlatform::object_source);
}

}  // namespace
}  // namespace mmu::testing
