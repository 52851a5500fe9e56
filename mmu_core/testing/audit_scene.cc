#include "mmu_core/testing/audit_scene.h"

#include <cstring>

#include "mmu_core/shadow_walk.h"

namespace mmu::testing {
namespace {

constexpr Pfn kHugeFrame{0x40000};  // aligned to 2M, and of nothing else

class Complaints final : public AuditSink {
 public:
  void on_finding(const AuditFinding& f) override { all.push_back(f); }
  std::vector<AuditFinding> all;
};

::testing::AssertionResult refuted_by(const Complaints& complaints) {
  auto result = ::testing::AssertionFailure() << "the audit says\n" << std::hex;
  for (const AuditFinding& f : complaints.all)
    result << "class " << static_cast<int>(f.cls) << ": " << f.what << " (gfn 0x" << f.gfn.raw
           << ", table 0x" << f.table.raw << ", entry 0x" << f.index << " = 0x" << f.spte << ")\n";
  return result;
}

bool same(const AuditFinding& f, AuditFinding::Class cls, const char* what, SpteRef place) {
  const Gfn gfn = place.page ? place.page->gfn : Gfn{};
  const Hpa table = place.page ? place.page->hpa : Hpa{};
  return f.cls == cls && std::strcmp(f.what, what) == 0 && f.gfn == gfn && f.table == table &&
         f.index == place.index && f.spte == (place.page ? spte_of(place) : 0);
}

VmConfig config_of(const AuditMode& mode) {
  VmConfig c;
  c.host_levels = mode.host_levels;
  c.caps.la57 = mode.mode == &k5Level;
  return c;
}

}  // namespace

AuditScene::AuditScene(const AuditMode& mode) : guest(*mode.mode, config_of(mode)) {
  if (mode.mode == &kNoPaging) {
    guest.write(Gva{kPage.raw}, 1);
    EXPECT_TRUE(silent());
    return;
  }
  guest.platform.back_large(kMemory + kHugePage.raw, kHugeFrame, 2);
  // 4M pages begin where 4M of physical memory do.
  const u64 below = mode.mode == &k32Bit ? pages_of_level(2) * kPageSize : 0;
  guest.map(kVa, kPage);
  guest.map(kReadOnly, kPage + 0x1000, kUsed & ~pte::kW);
  guest.map(kSuper, kPage + 0x2000, kUsed & ~pte::kU);
  guest.map(kClean, kPage + 0x3000, kUsed & ~pte::kD);
  guest.map(kDevice, kNoMemory);
  guest.map(kSplit, Gpa{kSplitPage.raw - below}, kUsed, 2);
  guest.map(kHuge, Gpa{kHugePage.raw - below}, kUsed, 2);
  guest.write(kVa, 1);
  for (const Gva gva : {kReadOnly, kSuper, kClean, kDevice, kSplit}) guest.read(gva);
  guest.write(kHuge, 1);
  const Gpa table = page(kVa).gfn.base(), directory = page(kVa, 2).gfn.base();
  guest.map(kTable, table, kUsed & ~pte::kD);
  guest.map(kDirectory, directory, kUsed & ~pte::kD);
  // PDPTEs that were latched for the new tables have cost the root: all of it is there again.
  guest.write(kVa, 1);
  guest.read(kTable);
  guest.read(kDirectory);
  EXPECT_TRUE(silent());
}

AuditScene::~AuditScene() {
  for (; !repairs_.empty(); repairs_.pop_back()) repairs_.back()();
  EXPECT_TRUE(silent()) << "after the repair";
}

::testing::AssertionResult AuditScene::complains(Class cls, const char* what, SpteRef place) {
  Complaints complaints;
  guest.vm().audit(complaints);
  for (const AuditFinding& f : complaints.all)
    if (same(f, cls, what, place)) return ::testing::AssertionSuccess();
  return refuted_by(complaints);
}

::testing::AssertionResult AuditScene::silent() {
  Complaints complaints;
  guest.vm().audit(complaints);
  if (complaints.all.empty()) return ::testing::AssertionSuccess();
  return refuted_by(complaints);
}

void AuditScene::host_flips(Gva gva, u64 bits) {
  const auto flip = [this, entry = guest.entry(gva, 1), bits] {
    guest.store_entry(entry, guest.load_entry(entry) ^ bits);
  };
  flip();
  repairs_.emplace_back(flip);
}

void AuditScene::make_unsync() {
  guest.access(kTable + 0xff8, Access::kWrite, 0);
  ASSERT_TRUE(page(kVa).unsync);
}

SpteRef AuditScene::at(Gva gva, unsigned level) {
  SpteRef found;
  shadow_walk(vcpu().root, gva, [&](SpteRef ref) {
    if (ref.page->role.level() == level) found = ref;
    return !found.page;
  });
  if (!found.page)
    ADD_FAILURE() << "nothing at level " << level << " for 0x" << std::hex << gva.raw;
  return found;
}

ShadowPage*& AuditScene::hash_link(const ShadowPage& page) {
  ShadowPage** link = &vm().pages.hash.chain(page.gfn);
  while (*link != &page) link = &(*link)->hash_next;
  return *link;
}

}  // namespace mmu::testing
