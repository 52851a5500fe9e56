// Every paging mode in the real engine, on accesses whose outcome stands here by hand, from the
// manual.

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "harness/trace/content.h"
#include "harness/trace/x86.h"
#include "oracle/unicorn/client.h"

namespace twinwalk::oracle {
namespace {

constexpr std::uint64_t kUpper = pte::kP | pte::kW | pte::kU;
constexpr std::uint64_t kFrame = 0x777000, kSecondFrame = 0x555000, kLargeFrame = 0x0080'0000;
constexpr unsigned kPathLevels = 5;

// One path of tables to kGva in the mode of `machine`, each table in a page of its own; the
// geometry is written out, not taken from the code under test.
class ModeTest : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kGva = 0x4072'3000;

  void start(Mode mode, std::uint32_t more_features = 0) {
    std::string why;
    ASSERT_TRUE(client_.available(why)) << why;
    translates_ = client_.version().translates;
    machine_ = Machine{};
    machine_.mode = mode;
    machine_.features |= more_features | (mode == Mode::k5Level ? feature::kLa57 : 0);
    switch (mode) {
      case Mode::kNone:
        shifts_ = {};
        break;
      case Mode::k32Bit:
        shifts_ = {22, 12};
        break;
      case Mode::kPae:
        shifts_ = {30, 21, 12};
        break;
      case Mode::k4Level:
        shifts_ = {39, 30, 21, 12};
        break;
      case Mode::k5Level:
        shifts_ = {48, 39, 30, 21, 12};
        break;
    }
    client_.on_reset(machine_);
    for (unsigned i = 0; i < shifts_.size(); ++i) {
      const bool pdpte = mode == Mode::kPae && i == 0;
      const bool last = i + 1 == shifts_.size();
      put(i,
          last ? kFrame | kUpper : (kInitialCr3 + (i + 1) * 0x1000) | (pdpte ? pte::kP : kUpper));
    }
  }
  unsigned entry_bytes() const { return machine_.mode == Mode::k32Bit ? 4 : 8; }
  std::uint64_t place(unsigned i, std::uint64_t gva = kGva) const {
    const std::uint64_t index_mask = machine_.mode == Mode::k32Bit ? 1023 : 511;
    return kInitialCr3 + i * 0x1000 + (gva >> shifts_[i] & index_mask) * entry_bytes();
  }
  // Entry i of the path, the root's first.
  void put(unsigned i, std::uint64_t entry) {
    entry_[i] = entry;
    client_.on_memory(place(i), entry_bytes(), entry);
  }
  void leaf(std::uint64_t entry) { put(static_cast<unsigned>(shifts_.size()) - 1, entry); }

  AccessQuery query(AccessKind kind, unsigned cpl = 0, std::uint64_t gva = kGva,
                    unsigned size = 8) const {
    AccessQuery q;
    q.gva = gva;
    q.kind = kind;
    q.size = static_cast<std::uint8_t>(size);
    q.value = 0x1122'3344'5566'7788;
    q.registers = initial_registers(machine_);
    q.registers.cpl = static_cast<std::uint8_t>(cpl);
    return q;
  }
  // The first `count` entries as they are.
  Path path(unsigned count) const {
    Path path;
    path.count = static_cast<std::uint8_t>(count);
    for (unsigned i = 0; i < count; ++i) path.entry[i] = entry_[i];
    return path;
  }
  // As an access that completes leaves them. SDM 3A §"Accessed and Dirty Flags": PDPTEs of PAE
  // paging have neither flag.
  Path used_path(unsigned count, bool stores) const {
    Path used = path(count);
    for (unsigned i = machine_.mode == Mode::kPae ? 1 : 0; i < count; ++i) used.entry[i] |= pte::kA;
    if (stores && count != 0) used.entry[count - 1] |= pte::kD;
    return used;
  }
  static bool stores(const AccessQuery& q) {
    return q.kind == AccessKind::kWrite || q.kind == AccessKind::kRmw;
  }

  void faults(const AccessQuery& q, std::uint32_t error_code, unsigned count) {
    FreshOutcome fresh;
    fresh.kind = OutcomeKind::kPageFault;
    fresh.error_code = error_code;
    fresh.cr2 = q.gva;
    fresh.path[0] = path(count);
    client_.on_access(step_++, q, fresh);
  }
  void succeeds(const AccessQuery& q, std::uint64_t gpa = kFrame, unsigned count = ~0u) {
    if (count == ~0u) count = static_cast<unsigned>(shifts_.size());
    FreshOutcome fresh;
    fresh.gpa[0] = gpa;
    fresh.value = q.kind == AccessKind::kWrite ? 0 : extract(seed_word(gpa), gpa & 7, q.size);
    fresh.path[0] = used_path(count, stores(q));
    client_.on_access(step_++, q, fresh);
  }
  void leads_nowhere(const AccessQuery& q, std::uint64_t gpa, unsigned count) {
    FreshOutcome fresh;
    fresh.kind = OutcomeKind::kMmio;
    fresh.gpa[0] = gpa;
    fresh.path[0] = used_path(count, stores(q));
    client_.on_access(step_++, q, fresh);
  }
  // All accesses so far were executed (`skipped` apart) and agree.
  void agrees(std::uint64_t skipped = 0) {
    std::string differences;
    const UnicornClient::Result result = client_.finish([&](const UnicornDisagreement& d) {
      differences += "access " + std::to_string(d.step) + " " + d.field + ": by hand " + d.spec +
                     ", unicorn " + d.unicorn + "\n";
    });
    EXPECT_EQ(differences, "");
    EXPECT_FALSE(result.died) << result.why;
    EXPECT_EQ(result.checks, step_ - skipped);
    EXPECT_EQ(result.skipped, skipped);
  }
  // Loads, stores, read-modify-writes of all sizes and fetches, CPL 0 and 3.
  void all_kinds_succeed(std::uint64_t gva, std::uint64_t gpa, unsigned count = ~0u) {
    for (const unsigned cpl : {0u, 3u}) {
      for (const AccessKind kind :
           {AccessKind::kRead, AccessKind::kWrite, AccessKind::kRmw, AccessKind::kFetch}) {
        for (const unsigned size : {1u, 2u, 4u, 8u})
          succeeds(query(kind, cpl, gva, kind == AccessKind::kFetch ? 8 : size), gpa, count);
      }
    }
  }

  UnicornClient client_{TWINWALK_BINARY_DIR "/bin/twinwalk-unicorn"};
  Machine machine_;
  std::vector<unsigned> shifts_;
  std::array<std::uint64_t, kPathLevels> entry_{};
  std::uint32_t step_ = 0;
  bool translates_ = false;
};

constexpr const char* kNeedsTranslation = "this Unicorn's data does not follow the translation";

TEST_F(ModeTest, PagingOffIsTheIdentityWhateverControlsSay) {
  start(Mode::kNone);
  all_kinds_succeed(kFrame, kFrame);
  AccessQuery q = query(AccessKind::kWrite, 3, kFrame);
  q.registers.cr4 = cr4::kSmep | cr4::kSmap | cr4::kPke;
  q.registers.pkru = ~0u;
  succeeds(q);
  succeeds(query(AccessKind::kRead, 0, 0xabcd'0000'0000 + kFrame));  // 32 bits count
  succeeds(query(AccessKind::kRead, 0, kFrame + 0xffc, 4), kFrame + 0xffc);
  leads_nowhere(query(AccessKind::kRead, 0, 0xfee0'0000), 0xfee0'0000, 0);
  agrees(translates_ ? 0 : 1);  // not with SMAP
}

TEST_F(ModeTest, PagingOffCrossesPagesAndSkipsTheEndOfLinearAddresses) {
  start(Mode::kNone);
  const std::uint64_t at = kFrame + 0xffc;
  FreshOutcome fresh;
  fresh.gpa[0] = at, fresh.gpa[1] = kFrame + 0x1000;
  fresh.value = seed_word(at & ~std::uint64_t{7}) >> 32 | seed_word(kFrame + 0x1000) << 32;
  for (const AccessKind kind : {AccessKind::kRead, AccessKind::kRmw})
    client_.on_access(step_++, query(kind, 0, at), fresh);
  client_.on_access(step_++, query(AccessKind::kRead, 0, 0xffff'fffc), fresh);
  agrees(1);
}

TEST_F(ModeTest, Bits32SucceedsThroughTheTables) {
  start(Mode::k32Bit);
  if (!translates_) GTEST_SKIP() << kNeedsTranslation;
  all_kinds_succeed(kGva, kFrame);
  succeeds(query(AccessKind::kRead, 0, 0x12'0000'0000 + kGva));
  agrees();
}

TEST_F(ModeTest, Bits32NotPresentAndProtection) {
  start(Mode::k32Bit);
  leaf(kFrame | pte::kW | pte::kU);
  for (const unsigned cpl : {0u, 3u}) {
    const std::uint32_t user = cpl == 3 ? pfec::kU : 0;
    faults(query(AccessKind::kRead, cpl), user, 2);
    faults(query(AccessKind::kWrite, cpl), user | pfec::kW, 2);
    faults(query(AccessKind::kFetch, cpl), user, 2);  // NXE=1, but CR4.PAE=0
  }
  leaf(kFrame | pte::kP | pte::kU);
  faults(query(AccessKind::kWrite, 3), pfec::kP | pfec::kW | pfec::kU, 2);
  faults(query(AccessKind::kRmw), pfec::kP | pfec::kW, 2);
  AccessQuery unprotected = query(AccessKind::kWrite);
  unprotected.registers.cr0 &= ~cr0::kWp;
  succeeds(unprotected);
  leaf(kFrame | pte::kP | pte::kW);
  faults(query(AccessKind::kRead, 3), pfec::kP | pfec::kU, 2);
  put(0, 0);
  faults(query(AccessKind::kRead), 0, 1);
  agrees();
}

TEST_F(ModeTest, Bits32SmepSmapAndNoKeys) {
  start(Mode::k32Bit);
  AccessQuery fetch = query(AccessKind::kFetch);
  fetch.registers.cr4 |= cr4::kSmep;
  faults(fetch, pfec::kP | pfec::kI, 2);
  AccessQuery load = query(AccessKind::kRead);
  load.registers.cr4 |= cr4::kPke;  // keys act in 4-level and 5-level paging only
  load.registers.pkru = ~0u;
  succeeds(load);
  std::uint64_t skipped = 0;
  load.registers.cr4 |= cr4::kSmap;
  faults(load, pfec::kP, 2);
  load.registers.ac = true;
  succeeds(load);
  if (!translates_) skipped = 2;
  agrees(skipped);
}

TEST_F(ModeTest, Bits32PageSizeCountsWithPse) {
  start(Mode::k32Bit);
  const std::uint64_t inside = kGva & 0x3f'ffff;
  put(0, kLargeFrame | kUpper | pte::kPs | pte::kPatLarge);
  succeeds(query(AccessKind::kRead), kLargeFrame + inside, 1);
  succeeds(query(AccessKind::kWrite), kLargeFrame + inside, 1);
  put(0, kLargeFrame | kUpper | pte::kPs | bit(21));
  faults(query(AccessKind::kRead), pfec::kP | pfec::kRsvd, 1);
  put(0, (kInitialCr3 + 0x1000) | kUpper | pte::kPs);
  AccessQuery without = query(AccessKind::kRead);
  without.registers.cr4 &= ~cr4::kPse;
  succeeds(without);
  agrees();
}

TEST_F(ModeTest, Bits32Pse36ReachesBeyond4G) {
  start(Mode::k32Bit);
  const std::uint64_t inside = kGva & 0x3f'ffff;
  put(0, kLargeFrame | kUpper | pte::kPs | bit(13) | bit(20));
  leads_nowhere(query(AccessKind::kRead), bit(32) | bit(39) | (kLargeFrame + inside), 1);
  agrees();
}

TEST_F(ModeTest, PaeSucceedsThroughTheTables) {
  start(Mode::kPae);
  if (!translates_) GTEST_SKIP() << kNeedsTranslation;
  all_kinds_succeed(kGva, kFrame);
  put(1, kLargeFrame | kUpper | pte::kPs);
  all_kinds_succeed(kGva, kLargeFrame + (kGva & 0x1f'ffff), 2);
  agrees();
}

TEST_F(ModeTest, PaeFaults) {
  start(Mode::kPae);
  leaf(kFrame | kUpper | pte::kXd);
  faults(query(AccessKind::kFetch), pfec::kP | pfec::kI, 3);
  AccessQuery no_nxe = query(AccessKind::kRead);
  no_nxe.registers.efer = 0;
  faults(no_nxe, pfec::kP | pfec::kRsvd, 3);
  for (const unsigned reserved : {40u, 51u, 52u, 62u}) {
    leaf(kFrame | kUpper | bit(reserved));
    faults(query(AccessKind::kRead), pfec::kP | pfec::kRsvd, 3);
  }
  leaf(kFrame | kUpper);
  put(1, kLargeFrame | kUpper | pte::kPs | bit(13));
  faults(query(AccessKind::kWrite, 3), pfec::kP | pfec::kRsvd | pfec::kW | pfec::kU, 2);
  put(1, 0);
  faults(query(AccessKind::kRead), 0, 2);
  put(0, 0);
  faults(query(AccessKind::kRead), 0, 1);
  agrees();
}

// SDM 3A §"PDPTE Registers": a walk uses what MOV to CR3 loaded, whatever memory says by now.
TEST_F(ModeTest, PaeWalksByTheLatchedPdptes) {
  start(Mode::kPae);
  const std::uint64_t latched = entry_[0];
  client_.on_memory(place(0), 8, 0);
  succeeds(query(AccessKind::kRead));
  client_.on_memory(place(0), 8, 0x20'0000 | pte::kP);
  succeeds(query(AccessKind::kWrite));
  entry_[0] = 0;
  faults(query(AccessKind::kRead), 0, 1);
  // What is put in memory for a walk is gone after it.
  entry_[0] = latched;
  leaf(kInitialCr3 | kUpper);
  AccessQuery load = query(AccessKind::kRead, 0, kGva + 16);
  FreshOutcome fresh;
  fresh.gpa[0] = kInitialCr3 + 16;
  fresh.value = seed_word(kInitialCr3 + 16);
  fresh.path[0] = used_path(3, false);
  client_.on_access(step_++, load, fresh);
  // A load of the PDPTE itself cannot be told while it stands there.
  load.gva = kGva + 8;
  fresh.gpa[0] = kInitialCr3 + 8;
  fresh.value = 0x20'0000 | pte::kP;
  client_.on_access(step_++, load, fresh);
  agrees(1);
}

TEST_F(ModeTest, PaeCrossesFromOnePdpteToTheNext) {
  start(Mode::kPae);
  const std::uint64_t directory = 0x110000, table = 0x111000, gva = 0x3fff'fffc;
  client_.on_memory(kInitialCr3, 8, directory | pte::kP);
  client_.on_memory(directory + 511 * 8, 8, table | kUpper);
  client_.on_memory(table + 511 * 8, 8, kFrame | kUpper);
  client_.on_memory(kInitialCr3 + 0x1000, 8, (kInitialCr3 + 0x2000) | kUpper);
  client_.on_memory(kInitialCr3 + 0x2000, 8, kSecondFrame | kUpper);
  FreshOutcome fresh;
  fresh.gpa[0] = kFrame + 0xffc, fresh.gpa[1] = kSecondFrame;
  fresh.value = seed_word(kFrame + 0xff8) >> 32 | seed_word(kSecondFrame) << 32;
  fresh.path[0] =
      Path{3, {directory | pte::kP, table | kUpper | pte::kA, kFrame | kUpper | pte::kA | pte::kD}};
  fresh.path[1] = Path{3,
                       {(kInitialCr3 + 0x1000) | pte::kP, (kInitialCr3 + 0x2000) | kUpper | pte::kA,
                        kSecondFrame | kUpper | pte::kA | pte::kD}};
  if (!translates_) GTEST_SKIP() << kNeedsTranslation;
  client_.on_access(step_++, query(AccessKind::kRmw, 0, gva), fresh);
  client_.on_access(step_++, query(AccessKind::kRmw, 3, gva), fresh);
  agrees();
}

TEST_F(ModeTest, Level5SucceedsThroughTheTables) {
  start(Mode::k5Level);
  if (!translates_) GTEST_SKIP() << kNeedsTranslation;
  all_kinds_succeed(kGva, kFrame);
  agrees();
}

TEST_F(ModeTest, Level5Faults) {
  start(Mode::k5Level);
  put(0, entry_[0] | pte::kPs);
  faults(query(AccessKind::kRead), pfec::kP | pfec::kRsvd, 1);
  put(0, entry_[0] & ~(pte::kPs | pte::kW));
  faults(query(AccessKind::kWrite), pfec::kP | pfec::kW, 5);
  put(0, entry_[0] | pte::kW | pte::kXd);
  faults(query(AccessKind::kFetch, 3), pfec::kP | pfec::kU | pfec::kI, 5);
  put(0, 0);
  faults(query(AccessKind::kRead), 0, 1);
  // Canonical are 57 bits: beyond 48 a walk goes on, beyond 57 there is none.
  AccessQuery beyond = query(AccessKind::kRead, 0, bit(50) + kGva);
  FreshOutcome absent;
  absent.kind = OutcomeKind::kPageFault;
  absent.cr2 = beyond.gva;
  absent.path[0] = Path{1, {seed_word(kInitialCr3 + 4 * 8)}};
  client_.on_access(step_++, beyond, absent);
  FreshOutcome not_canonical;
  not_canonical.kind = OutcomeKind::kGp;
  client_.on_access(step_++, query(AccessKind::kRead, 0, bit(56) + kGva), not_canonical);
  agrees();
}

// One client, a trace in each mode by turns, and a guest that changes its mode in one trace.
TEST_F(ModeTest, ModesByTurns) {
  for (unsigned round = 0; round < 3; ++round) {
    for (const Mode mode : {Mode::k4Level, Mode::k32Bit, Mode::k5Level, Mode::kPae}) {
      start(mode);
      leaf(kFrame | pte::kP);
      faults(query(AccessKind::kRead, 3), pfec::kP | pfec::kU,
             static_cast<unsigned>(shifts_.size()));
      succeeds(query(AccessKind::kRead));
      AccessQuery off = query(AccessKind::kRead, 0, kFrame);
      off.registers.cr0 &= ~cr0::kPg;
      succeeds(off, kFrame, 0);
      succeeds(query(AccessKind::kRead));
    }
  }
  agrees();
}

}  // namespace
}  // namespace twinwalk::oracle
