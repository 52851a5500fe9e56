// The client with the real engine behind it, on accesses whose outcome stands here by hand.

#include "oracle/unicorn/client.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "harness/trace/content.h"
#include "harness/trace/x86.h"

namespace twinwalk::oracle {
namespace {

constexpr std::uint64_t kGva = 0x4000'0000, kUpper = pte::kP | pte::kW | pte::kU;
constexpr std::uint64_t kRoot = kInitialCr3, kPdpt = 0x101000, kPd = 0x102000, kPt = 0x103000,
                        kFrame = 0x777000;

std::string program() { return TWINWALK_BINARY_DIR "/bin/twinwalk-unicorn"; }

constexpr const char* kNeedsTranslation = "this Unicorn's data does not follow the translation";

// A guest with one path of tables to kGva, described to the client as spec would.
class Guest {
 public:
  explicit Guest(UnicornClient& client) : client_(client) {}

  void reset(const Machine& machine = {}) {
    client_.on_reset(machine);
    words_.clear();
    put(kRoot, kPdpt | kUpper);
    put(kPdpt + 8, kPd | kUpper);
    put(kPd, kPt | kUpper);
  }
  void put(std::uint64_t gpa, std::uint64_t word) {
    client_.on_memory(gpa, 8, word);
    words_[gpa] = word;
  }
  void leaf(std::uint64_t entry) { put(kPt, entry); }
  Path path() const {
    return Path{4, {words_.at(kRoot), words_.at(kPdpt + 8), words_.at(kPd), words_.at(kPt)}};
  }

 private:
  UnicornClient& client_;
  std::map<std::uint64_t, std::uint64_t> words_;
};

AccessQuery query(AccessKind kind, unsigned cpl = 0, std::uint64_t gva = kGva) {
  AccessQuery q;
  q.gva = gva;
  q.kind = kind;
  q.value = 0x1122'3344'5566'7788;
  q.registers = Registers{};
  q.registers.cpl = static_cast<std::uint8_t>(cpl);
  return q;
}

FreshOutcome fault(const Guest& guest, const AccessQuery& q, std::uint32_t error_code) {
  FreshOutcome fresh;
  fresh.kind = OutcomeKind::kPageFault;
  fresh.error_code = error_code;
  fresh.cr2 = q.gva;
  fresh.path[0] = guest.path();
  return fresh;
}

FreshOutcome ok(const Guest& guest, const AccessQuery& q, std::uint64_t gpa = kFrame) {
  FreshOutcome fresh;
  fresh.gpa[0] = gpa;
  fresh.value = q.kind == AccessKind::kWrite ? 0 : extract(seed_word(gpa), 0, q.size);
  fresh.path[0] = guest.path();
  for (unsigned i = 0; i < fresh.path[0].count; ++i) fresh.path[0].entry[i] |= pte::kA;
  if (q.kind == AccessKind::kWrite || q.kind == AccessKind::kRmw) fresh.path[0].entry[3] |= pte::kD;
  return fresh;
}

struct Finished {
  UnicornClient::Result result;
  std::vector<UnicornDisagreement> disagreements;
};
Finished finish(UnicornClient& client) {
  Finished finished;
  finished.result =
      client.finish([&](const UnicornDisagreement& d) { finished.disagreements.push_back(d); });
  return finished;
}
std::string text(const std::vector<UnicornDisagreement>& disagreements) {
  std::string all;
  for (const auto& d : disagreements) {
    all += "step " + std::to_string(d.step) + " " + d.field + ": spec " + d.spec + ", unicorn " +
           d.unicorn + "\n";
  }
  return all;
}

class ClientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string why;
    ASSERT_TRUE(client_.available(why)) << why;
    guest_.reset();
  }
  void expect_agreement(std::uint64_t checks) {
    const Finished f = finish(client_);
    EXPECT_TRUE(f.disagreements.empty()) << text(f.disagreements);
    EXPECT_EQ(f.result.checks, checks);
    EXPECT_EQ(f.result.skipped, 0u);
    EXPECT_FALSE(f.result.died) << f.result.why;
  }
  void access(const AccessQuery& q, const FreshOutcome& fresh) {
    client_.on_access(step_++, q, fresh);
  }
  // Supervisor and user, load, store, fetch and RMW: all must fault with `bits`, plus those of the
  // access.
  UnicornClient client_{program()};
  Guest guest_{client_};
  std::uint32_t step_ = 0;
};

TEST_F(ClientTest, SaysItsVersion) {
  const UnicornVersion version = client_.version();
  EXPECT_EQ(version.major, 2);
  EXPECT_EQ(version.translates, version.minor >= 1);
}

TEST_F(ClientTest, EveryKindAndSizeSucceedsThroughTheTables) {
  if (!client_.version().translates) GTEST_SKIP() << kNeedsTranslation;
  guest_.leaf(kFrame | kUpper);
  unsigned count = 0;
  for (const unsigned cpl : {0u, 3u}) {
    for (const AccessKind kind :
         {AccessKind::kRead, AccessKind::kWrite, AccessKind::kRmw, AccessKind::kFetch}) {
      for (const unsigned size : {1u, 2u, 4u, 8u}) {
        AccessQuery q = query(kind, cpl);
        q.size = static_cast<std::uint8_t>(kind == AccessKind::kFetch ? 8 : size);
        access(q, ok(guest_, q));
        ++count;
      }
    }
  }
  expect_agreement(count);
}

TEST_F(ClientTest, WhatAnAccessDidIsUndoneUntilTheJournalSaysIt) {
  guest_.leaf(kFrame | kUpper);
  const AccessQuery store = query(AccessKind::kWrite), load = query(AccessKind::kRead);
  access(store, ok(guest_, store));
  access(load, ok(guest_, load));  // the seed again
  client_.on_memory(kFrame, 8, 0xABCD);
  FreshOutcome fresh = ok(guest_, load);
  fresh.value = 0xABCD;
  access(load, fresh);
  expect_agreement(3);
}

TEST_F(ClientTest, NotPresent) {
  guest_.leaf(0);
  for (const unsigned cpl : {0u, 3u}) {
    const std::uint32_t user = cpl == 3 ? pfec::kU : 0;
    const AccessQuery load = query(AccessKind::kRead, cpl), store = query(AccessKind::kWrite, cpl),
                      fetch = query(AccessKind::kFetch, cpl);
    access(load, fault(guest_, load, user));
    access(store, fault(guest_, store, user | pfec::kW));
    access(fetch, fault(guest_, fetch, user | pfec::kI));
  }
  expect_agreement(6);
}

TEST_F(ClientTest, ProtectionWriteProtectAndNoExecute) {
  guest_.leaf(kFrame | pte::kP | pte::kU | pte::kXd);
  const AccessQuery user_store = query(AccessKind::kWrite, 3), store = query(AccessKind::kWrite),
                    fetch = query(AccessKind::kFetch, 3);
  access(user_store, fault(guest_, user_store, pfec::kP | pfec::kW | pfec::kU));
  access(store, fault(guest_, store, pfec::kP | pfec::kW));
  access(fetch, fault(guest_, fetch, pfec::kP | pfec::kU | pfec::kI));
  AccessQuery unprotected = store;
  unprotected.registers.cr0 &= ~cr0::kWp;
  access(unprotected, ok(guest_, unprotected));
  AccessQuery no_nxe = query(AccessKind::kRead);
  no_nxe.registers.efer &= ~efer::kNxe;
  access(no_nxe, fault(guest_, no_nxe, pfec::kP | pfec::kRsvd));
  expect_agreement(5);
}

TEST_F(ClientTest, SmepSmapAndProtectionKeys) {
  if (!client_.version().translates) GTEST_SKIP() << kNeedsTranslation;
  guest_.leaf(kFrame | kUpper | std::uint64_t{5} << pte::kPkeyShift);
  AccessQuery smap = query(AccessKind::kRead);
  smap.registers.cr4 |= cr4::kSmap;
  access(smap, fault(guest_, smap, pfec::kP));
  smap.registers.ac = true;
  access(smap, ok(guest_, smap));
  AccessQuery smep = query(AccessKind::kFetch);
  smep.registers.cr4 |= cr4::kSmep;
  access(smep, fault(guest_, smep, pfec::kP | pfec::kI));
  AccessQuery key = query(AccessKind::kRead, 3);
  key.registers.cr4 |= cr4::kPke;
  key.registers.pkru = 1u << 10;
  access(key, fault(guest_, key, pfec::kP | pfec::kU | pfec::kPk));
  key.kind = AccessKind::kWrite;
  key.registers.pkru = 2u << 10;
  access(key, fault(guest_, key, pfec::kP | pfec::kW | pfec::kU | pfec::kPk));
  key.kind = AccessKind::kRead;
  access(key, ok(guest_, key));
  expect_agreement(6);
}

TEST_F(ClientTest, AnAccessToTheHarnessesOwnLinearAddressIsTheGuests) {
  if (!client_.version().translates) GTEST_SKIP() << kNeedsTranslation;
  // The harness executes from this linear address; a trace may access it all the same.
  const std::uint64_t gva = 0x3a5c'1234'0000;
  guest_.put(kRoot + (gva >> 39 & 511) * 8, 0);
  AccessQuery load = query(AccessKind::kRead, 0, gva);
  FreshOutcome fresh;
  fresh.kind = OutcomeKind::kPageFault;
  fresh.cr2 = gva;
  fresh.path[0].count = 1;
  access(load, fresh);
  guest_.leaf(kFrame | kUpper);
  load = query(AccessKind::kRead);
  access(load, ok(guest_, load));
  expect_agreement(2);
}

TEST_F(ClientTest, DisagreementIsReportedWithItsField) {
  if (!client_.version().translates) GTEST_SKIP() << kNeedsTranslation;
  guest_.leaf(kFrame | kUpper);
  const AccessQuery load = query(AccessKind::kRead);
  FreshOutcome wrong_value = ok(guest_, load);
  wrong_value.value ^= 4;
  access(load, wrong_value);
  access(load, fault(guest_, load, 0));
  FreshOutcome no_accessed = ok(guest_, load);
  no_accessed.path[0].entry[1] &= ~pte::kA;
  access(load, no_accessed);
  guest_.leaf(0);
  access(load, fault(guest_, load, pfec::kU));
  const Finished f = finish(client_);
  ASSERT_EQ(f.disagreements.size(), 4u) << text(f.disagreements);
  EXPECT_EQ(f.disagreements[0].field, "value");
  EXPECT_EQ(f.disagreements[1].field, "outcome");
  EXPECT_EQ(f.disagreements[2].field, "accessed-dirty");
  EXPECT_EQ(f.disagreements[3].field, "error-code");
  for (const auto& d : f.disagreements) EXPECT_EQ(d.ledger, "");
}

TEST_F(ClientTest, ResetBringsTheSeedBack) {
  guest_.leaf(kFrame | kUpper);
  client_.on_memory(kFrame, 8, 0x42);
  guest_.reset();
  guest_.leaf(kFrame | kUpper);
  const AccessQuery load = query(AccessKind::kRead);
  access(load, ok(guest_, load));
  Machine larger;
  larger.memory_mib = 1024;
  guest_.reset(larger);
  guest_.leaf(0x3fff'f000 | kUpper);
  access(load, ok(guest_, load, 0x3fff'f000));
  expect_agreement(2);
}

TEST_F(ClientTest, MoreAccessesThanOneBatchHolds) {
  guest_.leaf(kFrame | kUpper);
  const AccessQuery load = query(AccessKind::kRead);
  for (unsigned i = 0; i < 60'000; ++i) access(load, ok(guest_, load));
  expect_agreement(60'000);
}

class MisbehavingServer : public ::testing::Test {
 protected:
  void TearDown() override { unsetenv("TWINWALK_UNICORN_MISBEHAVE"); }
  void one_access(UnicornClient& client) {
    Guest guest(client);
    guest.reset();
    guest.leaf(kFrame | kUpper);
    const AccessQuery load = query(AccessKind::kRead);
    client.on_access(0, load, ok(guest, load));
  }
};

TEST_F(MisbehavingServer, ACrashIsNamedAndTheNextBatchIsServed) {
  setenv("TWINWALK_UNICORN_MISBEHAVE", "abort:2", 1);
  UnicornClient client(program());
  one_access(client);
  EXPECT_EQ(finish(client).result.checks, 1u);
  unsetenv("TWINWALK_UNICORN_MISBEHAVE");
  one_access(client);
  const Finished crashed = finish(client);
  EXPECT_TRUE(crashed.result.died);
  EXPECT_EQ(crashed.result.why, "crashed: SIGABRT");
  EXPECT_EQ(crashed.result.checks, 0u);
  EXPECT_EQ(crashed.result.skipped, 1u);
  one_access(client);
  const Finished after = finish(client);
  EXPECT_FALSE(after.result.died);
  EXPECT_EQ(after.result.checks, 1u);
}

TEST_F(MisbehavingServer, AHangIsNamedAndTheNextBatchIsServed) {
  setenv("TWINWALK_UNICORN_MISBEHAVE", "spin:1", 1);
  UnicornClient client(program());
  std::string why;
  ASSERT_TRUE(client.available(why)) << why;
  unsetenv("TWINWALK_UNICORN_MISBEHAVE");
  client.set_deadline(std::chrono::milliseconds(300));
  one_access(client);
  const Finished hung = finish(client);
  EXPECT_TRUE(hung.result.died);
  EXPECT_EQ(hung.result.why, "hung: no answer within 300 ms");
  client.set_deadline(std::chrono::milliseconds(10'000));
  one_access(client);
  EXPECT_EQ(finish(client).result.checks, 1u);
}

TEST(AbsentServer, IsUnavailableWithAReason) {
  UnicornClient client("/nowhere/twinwalk-unicorn");
  std::string why;
  EXPECT_FALSE(client.available(why));
  EXPECT_EQ(why, "cannot start /nowhere/twinwalk-unicorn: No such file or directory");
}

}  // namespace
}  // namespace twinwalk::oracle
