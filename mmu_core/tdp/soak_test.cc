// Random calls of the facade, each followed by an audit, against a model of what memory is: gfn ->
// frame and rights, and the pages that were written since the log was taken.

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <tuple>
#include <vector>

#include "mmu_core/testing/tdp_guest.h"

namespace mmu::testing {
namespace {

using Kind = TdpOutcome::Kind;

constexpr u32 kVcpus = 2, kSlots = 3;
constexpr unsigned kSteps = 6000;

struct Slot {
  bool there = false, read_only = false, logs = false;
  u64 base = 0, pages = 0;
  Hva hva;
  std::set<u64> written;  // since the log was taken, or began
};

class TdpSoak : public ::testing::TestWithParam<std::tuple<TdpMachine, unsigned>> {
 protected:
  TdpSoak() : random_(seed()), guest_(machine(), config(), 1024) {
    slot_[0] = {true, false, false, 0, 1024, kTdpMemory, {}};
    // Another view of the same memory, and one that fits no large page.
    slot_[1] = {false, false, false, 0x800, 1024, kTdpMemory, {}};
    slot_[2] = {false, false, false, 0x1003, 600, kTdpMemory + (u64{1} << 34), {}};
  }
  static unsigned seed() { return std::get<1>(GetParam()); }
  static TdpMachine machine() { return std::get<0>(GetParam()); }
  static VmConfig config() {
    VmConfig c = machine().config();
    c.vcpus = kVcpus;
    c.options.fast_fault = seed() % 2 == 0;
    c.options.nx_huge_pages = seed() / 2 % 2;
    c.options.eager_split = seed() / 4 % 2;
    c.options.manual_clear = seed() % 3 == 1;
    c.options.initially_set = seed() % 6 == 4;
    if (machine().ept() && seed() % 4 == 3) c.shared_bit = kSharedBit;
    c.external_private = c.shared_bit && seed() % 8 == 7;
    return c;
  }

  u64 pick(u64 n) { return random_() % n; }
  u32 any_vcpu() { return static_cast<u32>(pick(kVcpus)); }
  // Few pages at both ends of each slot and of the large pages.
  u64 any_gfn() {
    static constexpr u64 kStarts[] = {0, 510, 1020, 0x7fe, 0xa00, 0xbfc, 0x1001, 0x1200, 0x1258};
    return kStarts[pick(std::size(kStarts))] + pick(6);
  }
  Slot* slot_of(u64 gfn) {
    for (Slot& s : slot_)
      if (s.there && gfn - s.base < s.pages) return &s;
    return nullptr;
  }
  HostPage& host(const Slot& s, u64 gfn) {
    return guest_.platform.host_page(s.hva + ((gfn - s.base) << 12));
  }
  bool is_private(u64 gfn) const { return private_.contains(gfn); }

  void step() {
    if (config().external_private) guest_.platform.module.busy = pick(4) ? 0 : 1;
    switch (pick(25)) {
      case 0:
        return change_slot();
      case 1:
      case 2:
        return change_flags();
      case 3:
      case 4:
        return take_log();
      case 5:
        return clear_log();
      case 6:
        return migrate();
      case 7:
        if (pick(4) == 0) make_large();
        return;
      case 8:
        return protect();
      case 9: {
        const Hva at = any_hva();
        guest_.vm().age(at, at + (1 + pick(16)) * kPageSize, pick(2));
        return;
      }
      case 10:
        if (pick(16) == 0) guest_.vm().zap_all();
        return;
      case 11:
        guest_.vm().recover_nx_huge_pages(pick(3));
        return;
      case 12:
        return convert();
      case 13:
        if (pick(8) == 0)
          EXPECT_EQ(guest_.vm().recreate_vcpu(any_vcpu(), Sregs{cr0::kPe, 0, 0, 0}), Status::kOk);
        return;
      case 14:
        return prefault();
      case 16:
        return track_or_untrack();
      case 15: {
        const u64 gfn = any_gfn();
        Slot* const s = slot_of(gfn);
        if (!s || s->read_only || !host(*s, gfn).writable) return;
        const u64 bit = config().shared_bit && !is_private(gfn) ? kSharedBit : 0;
        EXPECT_EQ(guest_.cpu().write_physical(Gpa{gfn << 12 | bit}, 8, ++value_).kind,
                  EmulateResult::Kind::kDone);
        note_write(gfn);
        return;
      }
      default:
        return touch();
    }
  }

  void touch() {
    const u64 gfn = any_gfn();
    const Access access = std::array{Access::kRead, Access::kWrite, Access::kFetch}[pick(3)];
    const bool as_private = config().shared_bit && (pick(8) ? is_private(gfn) : !is_private(gfn));
    Gpa gpa{gfn << 12 | pick(512) * 8};
    if (config().shared_bit && !as_private) gpa = gpa + kSharedBit;
    const TdpOutcome got = guest_.access(gpa, access, ++value_, any_vcpu());
    const TdpOutcome want = expected(gfn, gpa, access, as_private);
    EXPECT_EQ(got, want) << "gfn 0x" << std::hex << gfn;
    if (got.kind == Kind::kOk && access == Access::kWrite) note_write(gfn);
  }
  TdpOutcome expected(u64 gfn, Gpa gpa, Access access, bool as_private) {
    if (config().shared_bit && as_private != is_private(gfn)) return ended(Kind::kMemoryFault);
    const Slot* const s = slot_of(gfn);
    if (!s) return ended(Kind::kMmio);
    if (as_private && config().external_private && !host(*s, gfn).writable)
      return ended(Kind::kMemoryFault);
    if (access == Access::kWrite && (s->read_only || !host(*s, gfn).writable))
      return ended(Kind::kMmio);
    if (access == Access::kWrite && tracked_.count(gfn)) return ended(Kind::kEmulate);
    TdpOutcome o;
    o.hpa = host(*s, gfn).pfn.base() + gpa.raw % kPageSize;
    return o;
  }
  void note_write(u64 gfn) {
    Slot* const s = slot_of(gfn);
    if (s && s->logs) s->written.insert(gfn - s->base);
  }

  void change_slot() {
    const u32 id = static_cast<u32>(pick(kSlots));
    Slot& s = slot_[id];
    MemslotRequest r = guest_.slot(id, Gfn{s.base}, s.pages, s.hva);
    r.kind = s.there ? MemslotRequest::Kind::kDelete : MemslotRequest::Kind::kAdd;
    if (s.there && pick(2)) return;
    ASSERT_EQ(guest_.set(r), Status::kOk);
    if (s.there)
      for (u64 gfn = s.base; gfn < s.base + s.pages; ++gfn) tracked_.erase(gfn);
    s.there = !s.there;
    s.read_only = s.logs = false;
    s.written.clear();
  }
  void change_flags() {
    const u32 id = static_cast<u32>(pick(kSlots));
    Slot& s = slot_[id];
    if (!s.there) return;
    const bool read_only = pick(4) == 0, logs = pick(3) != 0;
    if ((read_only || logs) && !may_be_protected(s.base, s.pages)) {
      ASSERT_EQ(guest_.set_flags(id, read_only, logs), Status::kInvalid);
      return;
    }
    s.read_only = read_only;
    if (logs && !s.logs) s.written.clear();
    s.logs = logs;
    ASSERT_EQ(guest_.set_flags(id, s.read_only, s.logs), Status::kOk);
  }
  // What a module maps cannot be.
  bool may_be_protected(u64 first, u64 pages) const {
    const auto one = private_.lower_bound(first);
    return !config().external_private || one == private_.end() || *one >= first + pages;
  }
  bool may_be_private(u64 first, u64 pages) const {
    if (!config().external_private) return true;
    for (const Slot& s : slot_) {
      const bool apart = first + pages <= s.base || s.base + s.pages <= first;
      if (s.there && !apart && (s.read_only || s.logs)) return false;
    }
    const auto one = tracked_.lower_bound(first);
    return one == tracked_.end() || *one >= first + pages;
  }
  void take_log() {
    const u32 id = static_cast<u32>(pick(kSlots));
    Slot& s = slot_[id];
    std::vector<u64> log((s.pages + 63) / 64);
    ASSERT_EQ(guest_.vm().get_dirty_log(0, id, log.data(), log.size()), s.there && s.logs);
    if (!s.there || !s.logs) return;
    for (const u64 page : s.written)
      EXPECT_TRUE(log[page / 64] >> page % 64 & 1) << "lost: page " << page << " of slot " << id;
    if (!config().options.manual_clear) s.written.clear();
  }
  void clear_log() {
    const u32 id = static_cast<u32>(pick(kSlots));
    Slot& s = slot_[id];
    const u64 first = pick(s.pages), pages = 1 + pick(s.pages - first);
    std::vector<u64> wanted((pages + 63) / 64);
    for (u64& w : wanted) w = random_() | random_();
    const bool ok = guest_.vm().clear_dirty_log(0, id, first, pages, wanted.data());
    ASSERT_EQ(ok, s.there && s.logs && config().options.manual_clear);
    if (!ok) return;
    for (u64 i = 0; i < pages; ++i)
      if (wanted[i / 64] >> i % 64 & 1) s.written.erase(first + i);
  }

  Hva any_hva() {
    const Slot& s = slot_[pick(2) ? 0 : 2];
    const u64 gfn = any_gfn();
    return s.hva + (gfn % s.pages << 12);
  }
  void in_large(Hva& start, u64& pages) const {
    start = Hva{start.raw & ~((u64{1} << 21) - 1)};
    pages = 512;
  }
  // The host moves a page: of a large one only after it was split.
  void migrate() {
    Hva start = any_hva();
    const Hva page = start;
    u64 pages = 1;
    if (guest_.platform.host_page(page).host_level > 1) in_large(start, pages);
    guest_.vm().notifier_begin(start, start + pages * kPageSize);
    for (u64 i = 0; i < pages; ++i) guest_.platform.host_page(start + i * kPageSize).host_level = 1;
    guest_.platform.migrate(page);
    guest_.audit();
    guest_.vm().notifier_end(start, start + pages * kPageSize);
  }
  void make_large() {
    Hva start = any_hva();
    u64 pages = 1;
    in_large(start, pages);
    guest_.vm().notifier_begin(start, start + pages * kPageSize);
    bool writable = true;
    for (u64 i = 0; i < pages; ++i)
      writable &= guest_.platform.host_page(start + i * kPageSize).writable;
    if (writable) guest_.back_large(Gpa{start - kTdpMemory}, 2);
    guest_.vm().notifier_end(start, start + pages * kPageSize);
  }
  void protect() {
    Hva start = any_hva();
    const Hva page = start;
    u64 pages = 1;
    if (guest_.platform.host_page(page).host_level > 1) in_large(start, pages);
    guest_.vm().notifier_begin(start, start + pages * kPageSize);
    for (u64 i = 0; i < pages; ++i) guest_.platform.host_page(start + i * kPageSize).host_level = 1;
    guest_.platform.host_page(page).writable = pick(4) != 0;
    guest_.vm().notifier_end(start, start + pages * kPageSize);
  }
  void convert() {
    const u64 first = any_gfn(), pages = 1 + pick(pick(4) ? 8 : 600);
    const bool on = pick(2);
    const Status s = guest_.vm().set_private(Gfn{first}, pages, on);
    const bool may = config().shared_bit && (!on || may_be_private(first, pages));
    ASSERT_EQ(s, may ? Status::kOk : Status::kInvalid);
    if (s != Status::kOk) return;
    for (u64 i = 0; i < pages; ++i) {
      if (on) {
        private_.insert(first + i);
      } else {
        private_.erase(first + i);
      }
    }
  }
  void track_or_untrack() {
    const u64 gfn = any_gfn();
    if (pick(2)) {
      const Status s = guest_.vm().track_writes(0, Gfn{gfn});
      const bool may = slot_of(gfn) && may_be_protected(gfn, 1);
      ASSERT_EQ(s, may ? Status::kOk : Status::kInvalid);
      if (s == Status::kOk) tracked_.insert(gfn);
    } else {
      ASSERT_EQ(guest_.vm().untrack_writes(0, Gfn{gfn}), tracked_.count(gfn) != 0);
      const auto one = tracked_.find(gfn);
      if (one != tracked_.end()) tracked_.erase(one);
    }
  }
  void prefault() {
    const u64 gfn = any_gfn(), pages = 1 + pick(8);
    const bool as_private = config().shared_bit && is_private(gfn);
    u64 want = 0;
    while (want < pages && slot_of(gfn + want) &&
           !(as_private && config().external_private &&
             !host(*slot_of(gfn + want), gfn + want).writable) &&
           (!config().shared_bit || is_private(gfn + want) == as_private))
      ++want;
    const u64 bit = config().shared_bit && !as_private ? kSharedBit : 0;
    EXPECT_EQ(guest_.cpu(any_vcpu()).prefault(Gpa{gfn << 12 | bit}, pages), want);
  }

  std::mt19937_64 random_;
  TdpGuest guest_;
  Slot slot_[kSlots];
  std::set<u64> private_;
  std::multiset<u64> tracked_;
  u64 value_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Seeds, TdpSoak,
                         ::testing::Combine(::testing::ValuesIn(kTdpMachines),
                                            ::testing::Range(0u, 12u)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) + "_" +
                                  std::to_string(std::get<1>(info.param));
                         });

TEST_P(TdpSoak, StaysWholeAndRight) {
  for (unsigned i = 0; i < kSteps; ++i) {
    step();
    guest_.audit();
    ASSERT_FALSE(HasFailure()) << "step " << i;
  }
  EXPECT_GT(guest_.events(TdpEvent::kLeaf), 100u);
  EXPECT_GT(guest_.events(TdpEvent::kYield), 10u);
}

}  // namespace
}  // namespace mmu::testing
