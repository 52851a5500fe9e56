// Random calls of the facade, each followed by an audit; after a CR3 load an access must do what
// the guest's tables say at that moment.

#include "mmu_core/testing/soak.h"

#include <vector>

namespace mmu {
namespace {

using testing::Guest;
using testing::kMemory;
using testing::kRights;
using testing::mmio;
using testing::Outcome;
using testing::page_fault;

constexpr u32 kVcpus = 2;
constexpr unsigned kSteps = 20000;
constexpr Gva kRegion{u64{2} << 39};    // under random edits: entries 0 to 3 of each table
constexpr Gva kWindow{u64{511} << 39};  // where the guest reaches its tables; never edited itself
constexpr Gpa kData{0x40'0000}, kDevice{0x1'0000'0000};
constexpr Gpa kEndOfMemory{Guest::kPages * kPageSize};

class Soak : public testing::SoakTest {
 protected:
  Soak() : SoakTest(config()) {
    root_[0] = guest_.root();
    root_[1] = guest_.new_table();
    for (Gpa& table : table_) table = guest_.new_table();
    for (const Gpa root : root_) {
      guest_.host_store(root + 2 * 8, table_[0].raw | kRights);
      for (u64 i = 0; i < kTables; ++i) guest_.map(root, kWindow + i * kPageSize, table_[i]);
    }
    guest_.host_store(table_[0], table_[1].raw | kRights);
    guest_.host_store(table_[1], table_[2].raw | kRights);
    guest_.host_store(table_[1] + 8, table_[3].raw | kRights);
  }

  Gva any_gva() {
    return kRegion + (pick(2) << 30 | pick(4) << 21 | pick(4) << 12 | pick(512) * 8);
  }
  // A page of the guest in most cases; else a table, a large page, a device, a reserved bit, or not
  // present.
  u64 any_leaf() {
    const u64 flags = any_flags();
    switch (pick(16)) {
      case 0:
        return 0;
      case 1:
        return kDevice.raw | flags;
      case 2:
        return kData.raw | flags | bit(41);
      case 3:
        return kData.raw | flags | pte::kPs;
      case 4:
      case 5:
        return table_[pick(kTables)].raw | flags;
      default:
        return (kData + pick(4) * kPageSize).raw | flags;
    }
  }
  // An entry and what to store there. Upper tables get a link to the next level as a rule, so that
  // the tree stays deep.
  struct Edit {
    u64 table, index, value;
  };
  Edit any_edit() {
    const u64 table = pick(4) ? 2 + pick(2) : pick(2);
    const u64 index = pick(4);
    if (table >= 2 || pick(4) == 0) return {table, index, any_leaf()};
    const u64 next = table == 0 ? 1 : 2 + pick(2);
    return {table, index, table_[next].raw | (pick(4) ? kRights : pte::kP | pte::kU)};
  }
  Hva any_page() {
    const Gpa page = pick(2) ? kData + pick(4) * kPageSize : table_[pick(kTables)];
    return kMemory + page.raw;
  }

  void step(u32 v) override {
    switch (pick(21)) {
      case 0:
      case 18:
      case 19:
        return edit_by_instruction(v);
      case 1:
        return edit_by_emulation(v);
      case 2:
        return guest_.cpu(v).invlpg(any_gva());
      case 3:
        return load_cr3(v);
      case 4:
        return migrate();
      case 5: {
        const Hva page = any_page();
        guest_.vm().age(page, page + kPageSize, pick(2));
        return;
      }
      case 6:
        if (pick(8) == 0) guest_.vm().reclaim(pick(6));
        return;
      case 7:
        if (pick(32) == 0) guest_.vm().zap_all();
        return;
      case 8:
        return toggle_or_collect_log();
      case 9:
        if (pick(8) == 0) toggle_register(v);
        return;
      case 20:
        if (pick(4) == 0) track_or_untrack();
        return;
      case 10:
      case 11:
      case 12:
        return compare_with_tables(v);
      default:
        return touch(v);
    }
  }

  void edit_by_instruction(u32 v) {
    guest_.set_cpl(0, v);
    const Edit e = any_edit();
    const Outcome o = guest_.write(kWindow + e.table * kPageSize + e.index * 8, e.value, v);
    EXPECT_EQ(o.kind, Outcome::Kind::kOk) << o;
  }
  void edit_by_emulation(u32 v) {
    const Edit e = any_edit();
    const Gpa at = table_[e.table] + e.index * 8;
    if (pick(4)) return guest_.write_physical(at, e.value, 8, v);
    guest_.write_physical(at + pick(8), e.value, 1u << pick(4), v);
  }
  void load_cr3(u32 v) { EXPECT_TRUE(guest_.cpu(v).set_cr3(root_[pick(2)].raw)); }
  void migrate() {
    const Hva page = any_page();
    guest_.migrate(page);
  }
  void toggle_or_collect_log() {
    if (pick(4) == 0) {
      logging_ = !logging_;
      EXPECT_EQ(guest_.slot_request(MemslotRequest::Kind::kFlags, 0, Gfn{}, false, logging_),
                Status::kOk);
    }
    std::vector<u64> bitmap(Guest::kPages / 64);
    EXPECT_EQ(guest_.vm().get_dirty_log(0, 0, bitmap.data(), bitmap.size()), logging_);
  }
  // Changes nothing that the guest could see.
  void track_or_untrack() {
    const Gfn gfn{(any_page() - kMemory) >> 12};
    if (pick(4) == 0) {  // what is tracked never becomes unsync
      EXPECT_EQ(guest_.vm().track_writes(0, gfn), Status::kOk);
    } else {
      guest_.vm().untrack_writes(0, gfn);
    }
  }
  void toggle_register(u32 v) {
    Vcpu& cpu = guest_.cpu(v);
    if (pick(2)) {
      EXPECT_TRUE(cpu.set_cr0(cpu.cr0() ^ cr0::kWp));
    } else {
      EXPECT_TRUE(cpu.set_cr4(cpu.cr4() ^ (pick(2) ? cr4::kSmep : cr4::kPge)));
    }
  }
  void touch(u32 v) {
    guest_.set_cpl(pick(2) ? 3 : 0, v);
    const Access access = any_of({Access::kRead, Access::kWrite, Access::kFetch, Access::kRmw});
    const Outcome o = guest_.access(any_gva(), access, any_leaf(), v);
    EXPECT_LE(o.kind, Outcome::Kind::kMmio) << o;
  }

  // After a CR3 load nothing is stale: a user's read does what the tables say now.
  void compare_with_tables(u32 v) {
    EXPECT_TRUE(guest_.cpu(v).set_cr3(guest_.cpu(v).cr3()));
    guest_.set_cpl(3, v);
    const Gva gva = any_gva();
    const Outcome want = user_read_by_tables(Gpa{guest_.cpu(v).cr3()}, gva);
    EXPECT_EQ(guest_.read(gva, v), want) << "gva 0x" << std::hex << gva.raw;
  }
  Outcome user_read_by_tables(Gpa table, Gva gva) {
    bool user = true;
    for (unsigned level = 4;; --level) {
      if (table >= kEndOfMemory) return page_fault(pfec::kU);
      const unsigned shift = 12 + 9 * (level - 1);
      const u64 e = guest_.load(table + (gva.raw >> shift & 511) * 8);
      const bool page = level == 1 || (e & pte::kPs);
      const u64 misplaced = level > 1 && page ? bits(13, shift - 1) : 0;
      if (!(e & pte::kP)) return page_fault(pfec::kU);
      if ((e & (bits(40, 51) | misplaced)) || (level == 4 && page))
        return page_fault(pfec::kP | pfec::kU | pfec::kRsvd);
      user &= (e & pte::kU) != 0;
      table = Gpa{e & pte::kAddress};
      if (!page) continue;
      if (!user) return page_fault(pfec::kP | pfec::kU);
      const u64 inside = bits(0, shift - 1);
      const Gpa gpa{(table.raw & ~inside) | (gva.raw & inside)};
      return gpa < kEndOfMemory ? guest_.reaches(gpa) : mmio(gpa);
    }
  }

  static constexpr u64 kTables = 4;
  static VmConfig config() {
    VmConfig c;
    c.vcpus = kVcpus;
    c.quota = std::array{8u, 16u, 64u, 1024u}[GetParam() / 4 % 4];
    c.options.prefetch = GetParam() & 1;
    c.options.unsync = GetParam() & 2;
    return c;
  }

  Gpa root_[2];
  Gpa table_[kTables];  // a PDPT, a directory and two tables, at first
  bool logging_ = false;
};

INSTANTIATE_TEST_SUITE_P(Seeds, Soak, ::testing::Range(0u, 16u));

TEST_P(Soak, StaysWholeAndRight) {
  run(kSteps);
  if (HasFatalFailure()) return;
  // What the steps are for did happen.
  EXPECT_GT(guest_.stats().fetches, kSteps / 20);
  EXPECT_GT(guest_.stats().pt_writes, kSteps / 100);
  if (config().options.unsync) {
    EXPECT_GT(guest_.stats().syncs, kSteps / 100);
  }
}

}  // namespace
}  // namespace mmu
