// Random calls of the facade by vCPUs that change between all paging modes over one pool of table
// frames, each call followed by an audit: a frame is a page directory to one and a page table of
// another format to the next. After a CR3 load a user's read must do what the guest's tables say by
// the registers of that moment.

#include <array>
#include <vector>

#include "mmu_core/testing/soak.h"

namespace mmu {
namespace {

using testing::Guest;
using testing::kMemory;
using testing::mmio;
using testing::Outcome;
using testing::page_fault;

constexpr u32 kVcpus = 2;
constexpr unsigned kSteps = 15000;
constexpr Gpa kData{0x40'0000};
constexpr u64 kFrames = 4;                        // of data, and of tables in slot 0
constexpr Gpa kTables{0x80'0000};                 // and one more in slot 1, which comes and goes
constexpr Gpa kSlot1{Guest::kPages * kPageSize};  // [0] a table, [1] PDPTEs
constexpr Gpa kPdptes[] = {Gpa{0x70'0000}, kSlot1 + kPageSize};  // in no other use: A is reserved
constexpr u64 kIndices8[] = {0, 1, 2, 3, 128, 129, 256, 257};
constexpr u64 kIndices4[] = {0, 1, 2, 3, 256, 257, 512, 513};

class ModesSoak : public testing::SoakTest {
 protected:
  ModesSoak() : SoakTest(config()) {
    add_slot1();
    for (unsigned i = 0; i < 200; ++i) edit_by_host();
  }

  Gpa any_table() {
    const u64 i = pick(kFrames + 1);
    return i < kFrames ? kTables + i * kPageSize : kSlot1;
  }
  u64 any_offset() { return pick(2) ? any_of(kIndices8) * 8 : any_of(kIndices4) * 4; }

  // What an entry of any format may hold.
  u64 any_entry() {
    const u64 flags = any_flags();
    switch (pick(16)) {
      case 0:
        return 0;
      case 1:
        return 0x7000'0000 | flags;  // a device
      case 2:
        return kData.raw | flags | bit(any_of({21u, 41u, 45u, 55u, 60u}));
      case 3:
      case 4:
        return kData.raw | flags | pte::kPs | (pick(4) ? 0 : bit(13));
      case 5:
      case 6:
        return (kData + pick(kFrames) * kPageSize).raw | flags;
      default:
        return any_table().raw | flags;
    }
  }
  u64 two_4byte_entries() { return (any_entry() & 0xffff'ffff) | any_entry() << 32; }

  const PagingMode& mode_of(u32 v) {
    Vcpu& cpu = guest_.cpu(v);
    if (!(cpu.cr0() & cr0::kPg)) return kNoPaging;
    if (!(cpu.cr4() & cr4::kPae)) return k32Bit;
    if (!(cpu.efer() & efer::kLma)) return kPae;
    return cpu.cr4() & cr4::kLa57 ? k5Level : k4Level;
  }
  Gva any_gva(u32 v) {
    const PagingMode& mode = mode_of(v);
    if (mode.kind == Paging::kNone) return Gva{pick(4) ? any_table().raw : kData.raw};
    u64 gva = 0;
    for (unsigned l = 0; l < mode.levels; ++l) {
      const u64 index = mode.level[l].index_bits == 2 ? pick(4)
                        : mode.entry_bytes == 4       ? any_of(kIndices4)
                                                      : any_of(kIndices8);
      gva |= index << mode.level[l].index_lo;
    }
    const unsigned unused = 64 - mode.linear_bits;  // canonical
    return Gva{
        mode.legacy() ? gva : static_cast<u64>(static_cast<std::int64_t>(gva << unused) >> unused)};
  }

  void step(u32 v) override {
    switch (pick(24)) {
      case 0:
        return edit_by_emulation(v);
      case 1:
        return guest_.cpu(v).invlpg(any_gva(v));
      case 2:
      case 3:
        return enter_any_mode(v);
      case 4:
        return change_register(v);
      case 5: {
        static_cast<void>(guest_.cpu(v).set_cr3(any_root(v).raw));
        return;
      }
      case 6:
        return migrate();
      case 7:
        if (pick(8) == 0) guest_.vm().reclaim(pick(6));
        if (pick(32) == 0) guest_.vm().zap_all();
        return;
      case 8:
        if (pick(4) == 0) toggle_slot1();
        return;
      case 9:
        if (pick(8) == 0) static_cast<void>(guest_.cpu(v).invpcid(2 + pick(2), 0, Gva{}));
        return;
      case 10:
        return edit_pdptes(v);
      case 11:
      case 12:
      case 13:
      case 14:
      case 15:
        return compare_with_tables(v);
      default:
        return touch(v);
    }
  }

  // A PAE root must hold PDPTEs; other modes may have any table for one.
  Gpa any_root(u32 v) {
    if (mode_of(v).kind == Paging::kPae) return any_of(kPdptes) + pick(2) * 32;
    return any_table();
  }
  void enter_any_mode(u32 v) {
    static constexpr const PagingMode* kModes[] = {&kNoPaging, &k32Bit,  &k32Bit, &kPae,
                                                   &kPae,      &k4Level, &k5Level};
    const PagingMode& mode = *any_of(kModes);
    Sregs s = guest_.sregs(mode);
    s.cr3 = mode.kind == Paging::kPae ? any_of(kPdptes).raw : any_table().raw;
    if (pick(4) == 0) s.cr0 &= ~cr0::kWp;
    if (pick(4) == 0) s.cr4 ^= cr4::kPse;
    const bool ok = guest_.cpu(v).set_sregs(s);
    EXPECT_TRUE(ok || mode.kind == Paging::kPae);
  }
  void change_register(u32 v) {
    Vcpu& cpu = guest_.cpu(v);
    switch (pick(4)) {
      case 0:
        static_cast<void>(cpu.set_cr0(cpu.cr0() ^ any_of({cr0::kWp, cr0::kPg, cr0::kCd})));
        return;
      case 1:
        static_cast<void>(cpu.set_efer(cpu.efer() ^ efer::kLme));
        return;
      default:
        static_cast<void>(cpu.set_cr4(cpu.cr4() ^ any_of({cr4::kPae, cr4::kPse, cr4::kPge,
                                                          cr4::kSmep, cr4::kLa57, cr4::kPcide})));
    }
  }
  void edit_by_host() {
    guest_.host_store(Gpa{(any_table().raw + any_offset()) & ~u64{7}},
                      pick(2) ? any_entry() : two_4byte_entries());
    for (const Gpa table : kPdptes)
      guest_.host_store(table + pick(8) * 8, any_table().raw | (pick(8) ? pte::kP : 0));
  }
  void edit_by_emulation(u32 v) {
    const Gpa at{any_table().raw + any_offset()};
    if (at >= kSlot1 && !slot1_) return;
    const bool big = pick(4) != 0;
    if (pick(8) == 0) return guest_.write_physical(at + pick(8), any_entry(), 1u << pick(4), v);
    guest_.write_physical(at, any_entry(), big && at.raw % 8 == 0 ? 8 : 4, v);
  }
  void edit_pdptes(u32 v) {
    const Gpa at = any_of(kPdptes) + pick(8) * 8;
    if (at >= kSlot1 && !slot1_) return;
    u64 value = any_table().raw | pte::kP;
    if (pick(8) == 0) value = 0;
    if (pick(16) == 0) value |= pte::kW;
    guest_.write_physical(at, value, 8, v);
  }
  void add_slot1() {
    guest_.add_slot(1, Gfn::of(kSlot1), 2, kMemory + kSlot1.raw);
    slot1_ = true;
  }
  void toggle_slot1() {
    if (!slot1_) return add_slot1();
    EXPECT_EQ(guest_.slot_request(MemslotRequest::Kind::kDelete, 1), Status::kOk);
    slot1_ = false;
  }
  void migrate() {
    const Gpa page = pick(2) ? kData + pick(kFrames) * kPageSize : any_table();
    guest_.migrate(kMemory + page.raw);
  }
  void touch(u32 v) {
    guest_.set_cpl(pick(2) ? 3 : 0, v);
    const Access access = any_of({Access::kRead, Access::kWrite, Access::kWrite, Access::kRmw});
    const unsigned size = pick(2) ? 8 : 4;
    const u64 offset = any_offset() & ~u64{size - 1};
    const Outcome o = guest_.access(any_gva(v) + offset, access,
                                    pick(2) ? any_entry() : two_4byte_entries(), v, size);
    EXPECT_LE(o.kind, Outcome::Kind::kMmio) << o;
  }

  // After a CR3 load nothing is stale.
  void compare_with_tables(u32 v) {
    if (!guest_.cpu(v).set_cr3(guest_.cpu(v).cr3())) return;  // a reserved bit in a PDPTE
    guest_.set_cpl(3, v);
    const Gva gva = any_gva(v);
    ++compared_[static_cast<unsigned>(mode_of(v).kind)];
    const Outcome want = user_read_by_tables(v, gva);
    const Outcome got = guest_.read(gva, v);
    EXPECT_EQ(got, want) << "gva 0x" << std::hex << gva.raw << " in a mode of "
                         << unsigned{mode_of(v).levels} << " levels, cr3 0x" << guest_.cpu(v).cr3();
    done_ += got.kind == Outcome::Kind::kOk;
  }

  bool memory_at(u64 gpa) const {
    return gpa < kSlot1.raw || (slot1_ && gpa < kSlot1.raw + 2 * kPageSize);
  }
  Outcome data(u64 gpa) { return memory_at(gpa) ? guest_.reaches(Gpa{gpa}) : mmio(Gpa{gpa}); }
  u64 entry_at(u64 gpa, unsigned size) {
    const u64 both = guest_.load(Gpa{gpa & ~u64{7}});
    return size == 8 ? both : (gpa & 4 ? both >> 32 : both) & 0xffff'ffff;
  }

  // SDM 3A "Paging", for a read at CPL 3.
  Outcome user_read_by_tables(u32 v, Gva gva) {
    const PagingMode& mode = mode_of(v);
    const u64 cr3 = guest_.cpu(v).cr3();
    const Outcome none = page_fault(pfec::kU);
    const Outcome reserved = page_fault(pfec::kP | pfec::kU | pfec::kRsvd);
    u64 table = cr3 & ~u64{0xfff};
    unsigned level = mode.levels;
    switch (mode.kind) {
      case Paging::kNone:
        return data(gva.raw);
      case Paging::kPae: {
        const u64 at = (cr3 & ~u64{31}) + (gva.raw >> 30) * 8;
        const u64 e = memory_at(at) ? entry_at(at, 8) : 0;
        if (!(e & 1)) return none;
        if (e & (bits(1, 2) | bits(5, 8) | bits(40, 63))) return reserved;
        table = e & bits(12, 39);
        --level;
        break;
      }
      default:
        break;
    }
    bool user = true;
    for (;; --level) {
      const Level& geometry = mode.level[level - 1];
      const u64 index = gva.raw >> geometry.index_lo & ((1u << geometry.index_bits) - 1);
      if (!memory_at(table)) return none;
      const u64 e = entry_at(table + index * mode.entry_bytes, mode.entry_bytes);
      if (!(e & 1)) return none;
      const bool small = mode.entry_bytes == 4;
      const bool ps = level > 1 && (e & 0x80) && (!small || (guest_.cpu(v).cr4() & cr4::kPse));
      u64 must_be_0 = small ? 0 : bits(40, mode.kind == Paging::kPae ? 62 : 51);
      if (ps) must_be_0 |= small ? bit(21) : level >= 4 ? 0x80 : bits(13, geometry.index_lo - 1u);
      if (amd() && level >= 4) must_be_0 |= bit(8);
      if (e & must_be_0) return reserved;
      user &= (e & 4) != 0;
      table = e & bits(12, 51);
      if (level > 1 && !ps) continue;
      if (!user) return page_fault(pfec::kP | pfec::kU);
      const u64 inside = (u64{1} << geometry.index_lo) - 1;
      if (small && ps) table = (e & bits(22, 31)) | (e & bits(13, 20)) << 19;
      return data((table & ~inside) | (gva.raw & inside));
    }
  }

  static bool amd() { return GetParam() & 1; }
  static VmConfig config() {
    VmConfig c;
    c.vcpus = kVcpus;
    c.caps.la57 = true;
    c.caps.vendor = amd() ? Vendor::kAmd : Vendor::kIntel;
    c.host_levels = static_cast<u8>(3 + GetParam() % 3);
    c.quota = std::array{8u, 64u, 1024u}[GetParam() / 3 % 3];
    c.options.prefetch = GetParam() & 2;
    c.options.unsync = GetParam() % 5;
    return c;
  }

  bool slot1_ = false;
  unsigned compared_[5] = {}, done_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Seeds, ModesSoak, ::testing::Range(0u, 18u));

TEST_P(ModesSoak, StaysWholeAndRight) {
  run(kSteps);
  if (HasFatalFailure()) return;
  // What the steps are for did happen.
  for (const unsigned n : compared_) EXPECT_GT(n, kSteps / 100);
  EXPECT_GT(done_, kSteps / 50);
  EXPECT_GT(guest_.stats().pt_writes, kSteps / 100);
  EXPECT_GT(guest_.stats().floods, 0u);
}

}  // namespace
}  // namespace mmu
