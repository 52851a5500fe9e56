#include "kvm_runner/core_kvm_subject.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "harness/trace/content.h"
#include "kvm_runner/subjects.h"
#include "kvm_runner/testing/soak.h"
#include "kvm_runner/testing/subject_probe.h"

namespace twinwalk::kvm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class CoreKvmSubjectTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string why;
    subject_ = make_core_kvm_subject(why);
    if (!subject_) GTEST_SKIP() << why;
  }
  Seen run(std::string_view text) { return run_text(*subject_, text); }
  std::string last(std::string_view text) { return run(text).last_text(); }

  std::unique_ptr<Subject> subject_;
};

TEST_F(CoreKvmSubjectTest, VersionNamesTheHost) {
  EXPECT_THAT(subject_->info().version, HasSubstr("linux "));
}

TEST_F(CoreKvmSubjectTest, ProcessorReadsThroughTheCoresTables) {
  for (const char* cpl : {"0", "3"}) {
    const Seen seen =
        run("map gva=0x400000 gpa=0x5000\naccess read gva=0x400008 cpl=" + std::string(cpl) + "\n");
    EXPECT_EQ(seen.last().kind, OutcomeKind::kOk);
    EXPECT_EQ(seen.last().value, seed_word(0x5008));
  }
}

TEST_F(CoreKvmSubjectTest, StoreReachesGuestMemory) {
  run("map gva=0x400000 gpa=0x5000\naccess write gva=0x400010 value=0x42 cpl=3\n");
  std::uint64_t word = 0;
  ASSERT_TRUE(subject_->read_image(0x5010, word));
  EXPECT_EQ(word, 0x42u);
}

TEST_F(CoreKvmSubjectTest, CoreSetsAccessedAndDirtyInTheGuestsTables) {
  const Path path =
      run("map gva=0x400000 gpa=0x5000\naccess write gva=0x400000 cpl=3\n").last().path[0];
  ASSERT_EQ(path.count, 4);
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(path.entry[i] & pte::kA) << i;
  EXPECT_TRUE(path.entry[3] & pte::kD);
}

TEST_F(CoreKvmSubjectTest, FaultOfTheGuestIsTheCoresOwn) {
  EXPECT_EQ(last("map gva=0x400000 gpa=0x5000 pte=p|u\naccess write gva=0x400004 cpl=3\n"),
            "#PF ec=p|w|u cr2=0x400004");
}

TEST_F(CoreKvmSubjectTest, FetchTellsWhereItLandedAndGivesDataBack) {
  const Seen seen =
      run("map gva=0x400000 gpa=0x5000\naccess write gva=0x400000 value=0x1234\n"
          "access fetch gva=0x400002 cpl=3\n");
  EXPECT_EQ(seen.last().kind, OutcomeKind::kOk);
  EXPECT_EQ(seen.last().value, 0x1234u);
  EXPECT_EQ(seen.last().gpa[0], 0x5002u);
}

// The processor may keep the old translation until the core asks for a flush; after INVLPG it must
// not.
TEST_F(CoreKvmSubjectTest, FlushOfTheCoreReachesTheProcessor) {
  EXPECT_EQ(run("map gva=0x400000 gpa=0x5000\naccess read gva=0x400000 cpl=3\n"
                "write gpa=0x103000 value=0x9000|p|w|u\ninvlpg gva=0x400000\naccess read "
                "gva=0x400000 cpl=3\n")
                .last()
                .value,
            seed_word(0x9000));
}

TEST_F(CoreKvmSubjectTest, GigabytePagesNeedNoneOfTheHost) {
  EXPECT_EQ(
      run("map gva=0x40000000 gpa=0x0 size=1G\naccess read gva=0x40005000 cpl=3\n").last().value,
      seed_word(0x5000));
}

TEST_F(CoreKvmSubjectTest, MemslotsAndDeviceAddresses) {
  EXPECT_THAT(
      run("map gva=0x400000 gpa=0x10000000\nslot-add slot=1 gpa=0x10000000 pages=1 "
          "hva=0x7f0000006000\n"
          "access write gva=0x400000 cpl=3\nslot-delete slot=1\naccess read gva=0x400000 cpl=3\n"
          "slot-delete slot=1\n")
          .texts,
      ElementsAre("done", "done", "done", "done", "done", "ok", "done", "mmio read gpa=0x10000000",
                  "refused"));
}

TEST_F(CoreKvmSubjectTest, BackingChangesReachTheProcessor) {
  const std::string head =
      "map gva=0x400000 gpa=0x5000\naccess write gva=0x400000 value=0x77 cpl=3\n";
  const std::string read = "access read gva=0x400000 cpl=3\n";
  EXPECT_EQ(run(head + "invalidate hva=0x7f0000005000\n" + read).last().value, 0u);
  EXPECT_EQ(run(head + "remap hva=0x7f0000005000\n" + read).last().value, 0x77u);
  EXPECT_EQ(
      run(head + "protect hva=0x7f0000005000 writable=0\naccess write gva=0x400008 cpl=3\n" + read)
          .last()
          .value,
      0x77u);
}

TEST_F(CoreKvmSubjectTest, WhatTheProcessorLacksIsSkipped) {
  EXPECT_EQ(last("access read gva=0xffffff8000000000\n"), "skip host-lacks-feature");
  EXPECT_EQ(last("access read gva=0x400000 implicit=1\n"), "skip host-lacks-feature");
  EXPECT_EQ(last("machine core=ept\naccess read gva=0x400000\n"), "skip mode-not-supported");
}

// The same page in each mode that hangs below a root of four levels.
TEST_F(CoreKvmSubjectTest, EveryModeReadsThroughTheCoresTables) {
  for (const char* mode : {"none", "32-bit", "pae", "4-level"}) {
    for (const char* cpl : {"0", "3"}) {
      const Seen seen =
          run(std::string("machine mode=") + mode +
              "\nmap gva=0x5000 gpa=0x5000\naccess read gva=0x5008 cpl=" + cpl + "\n");
      EXPECT_EQ(seen.last().kind, OutcomeKind::kOk) << mode;
      EXPECT_EQ(seen.last().value, seed_word(0x5008)) << mode;
    }
  }
}

TEST_F(CoreKvmSubjectTest, PathHasTheEntriesOfTheMode) {
  const auto entries = [&](const char* mode) {
    return run(std::string("machine mode=") + mode +
               "\nmap gva=0x400000 gpa=0x5000\naccess read gva=0x400000\n")
        .last()
        .path[0]
        .count;
  };
  EXPECT_EQ(entries("none"), 0);
  EXPECT_EQ(entries("32-bit"), 2);
  EXPECT_EQ(entries("pae"), 3);
}

TEST_F(CoreKvmSubjectTest, LegacyAddressesRunOnFrom4GiBToZero) {
  const Seen seen =
      run("machine mode=32-bit\nmap gva=0xfffff000 gpa=0x5000\nmap gva=0x0 gpa=0x6000\n"
          "access read gva=0xfffffffc cpl=3\n");
  EXPECT_EQ(seen.last().value, seed_word(0x5ff8) >> 32 | seed_word(0x6000) << 32);
  EXPECT_EQ(last("machine mode=32-bit\nmap gva=0xfffff000 gpa=0x5000\n"
                 "access read gva=0xfffffffc cpl=3\n"),
            "#PF ec=u cr2=0x0");
}

TEST_F(CoreKvmSubjectTest, ModeChangesOnTheWay) {
  EXPECT_EQ(run("machine mode=none\naccess write gva=0x5000 value=0x77\n"
                "mov cr4=pae\nmov efer=lme|nxe\nmov cr0=pe|et|ne|wp|pg\n"
                "map gva=0x7f0000000000 gpa=0x5000\naccess read gva=0x7f0000000000 cpl=3\n")
                .last()
                .value,
            0x77u);
}

TEST_F(CoreKvmSubjectTest, RandomTracesOfEveryModeAgreeWithTheReference) {
  RandomTraceOptions options;
  options.modes = options.events = true;
  const SoakTotals totals = soak(*subject_, options, 300, [](Machine& machine) {
    machine.core = Dimension::kShadow;
    machine.maxphyaddr = std::min<std::uint8_t>(machine.maxphyaddr, 36);
    machine.host_levels = 3;
  });
  EXPECT_GT(totals.checks, 2 * totals.skipped);
  RecordProperty("skipped",
                 std::to_string(totals.skipped) + " of " + std::to_string(totals.checks));
}

}  // namespace
}  // namespace twinwalk::kvm
