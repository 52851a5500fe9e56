#include "kvm_runner/kvm_subject.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "harness/trace/content.h"
#include "kvm_runner/host.h"
#include "kvm_runner/subjects.h"
#include "kvm_runner/testing/subject_probe.h"

namespace twinwalk::kvm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class KvmSubjectTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string why;
    subject_ = make_kvm_subject(why);
    if (!subject_) GTEST_SKIP() << why;
  }
  Seen run(std::string_view text) { return run_text(*subject_, text); }
  std::string last(std::string_view text) { return run(text).last_text(); }

  std::unique_ptr<VmSubject> subject_;
};

TEST_F(KvmSubjectTest, VersionNamesKernelAndCpu) {
  EXPECT_THAT(subject_->info().version, HasSubstr("linux "));
  EXPECT_THAT(subject_->info().version, HasSubstr("microcode "));
}

TEST_F(KvmSubjectTest, LoadSeesTheSeed) {
  const Seen seen = run("map gva=0x400000 gpa=0x5000\naccess read gva=0x400008 cpl=3\n");
  EXPECT_EQ(seen.last().kind, OutcomeKind::kOk);
  EXPECT_EQ(seen.last().value, seed_word(0x5008));
}

TEST_F(KvmSubjectTest, StoreIsSeenWhereItLanded) {
  const Seen seen =
      run("map gva=0x400000 gpa=0x5000\naccess write gva=0x400010 value=0x42 cpl=3\n");
  EXPECT_EQ(seen.last_text(), "ok gpa=0x5010");
  std::uint64_t word = 0;
  ASSERT_TRUE(subject_->read_image(0x5010, word));
  EXPECT_EQ(word, 0x42u);
}

// What one program does to registers, memory, memslots and translations the next must not meet, be
// it of the same machine or of another.
TEST_F(KvmSubjectTest, AKeptVmIsAsGoodAsAFreshOne) {
  constexpr std::string_view kPrograms[] = {
      ("map gva=0x400000 gpa=0x5000\naccess write gva=0x400000 value=0x1234 cpl=3\n"
       "slot-add slot=2 gpa=0x10000000 pages=4 hva=0x7f0010000000\nmov cr3=0x200000\n"),
      "access read gva=0x400000\n",
      "map gva=0x400000 gpa=0x5000\naccess read gva=0x400000 cpl=3\nget cr3\n",
      "slot-delete slot=2\n",
      "machine mode=pae\nmap gva=0x400000 gpa=0x6000\naccess read gva=0x400000\nget cr4\n",
      ("machine vcpus=2\nmap gva=0x400000 gpa=0x7000\naccess read gva=0x400000 vcpu=1\nmov "
       "cr3=0x300000 vcpu=1\n"),
      ("machine vcpus=2\nget cr3 vcpu=1\nmap gva=0x400000 gpa=0x9000\naccess read gva=0x400000 "
       "vcpu=1\n"),
  };
  std::vector<std::vector<std::string>> fresh;
  for (const std::string_view program : kPrograms) fresh.push_back(run(program).texts);
  subject_->keep_vms(true);
  for (unsigned round = 0; round < 3; ++round) {
    for (std::size_t i = 0; i < std::size(kPrograms); ++i)
      EXPECT_EQ(run(kPrograms[i]).texts, fresh[i]) << "round " << round << ", program " << i;
  }
}

// A host edit that nobody announces may leave the old translation in use: whichever it was, the
// outcome says so.
TEST_F(KvmSubjectTest, StoreThroughAStaleTranslationIsSeenWhereItLanded) {
  const Seen seen =
      run("map gva=0x400000 gpa=0x5000\naccess read gva=0x400000 cpl=3\n"
          "write gpa=0x103000 value=0x9000|p|w|u by=host\naccess write gva=0x400000 value=0x77 "
          "cpl=3\n");
  ASSERT_NE(seen.last().gpa[0], kUnknownGpa);
  std::uint64_t word = 0;
  ASSERT_TRUE(subject_->read_image(seen.last().gpa[0], word));
  EXPECT_EQ(word, 0x77u);
}

TEST_F(KvmSubjectTest, PathShowsAccessedAndDirty) {
  const Seen seen = run("map gva=0x400000 gpa=0x5000\naccess write gva=0x400000 cpl=3\n");
  const Path& path = seen.last().path[0];
  ASSERT_EQ(path.count, 4);
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(path.entry[i] & pte::kA) << i;
  EXPECT_TRUE(path.entry[3] & pte::kD);
}

TEST_F(KvmSubjectTest, CrossingStoreLandsInBothFrames) {
  EXPECT_EQ(last("map gva=0x400000 gpa=0x5000\nmap gva=0x401000 gpa=0x9000\n"
                 "access write gva=0x400ffc value=0x1122334455667788 cpl=3\n"),
            "ok gpa=0x5ffc,0x9000");
}

TEST_F(KvmSubjectTest, FetchTellsWhereItLanded) {
  for (const char* cpl : {"0", "3"}) {
    const Seen seen = run(
        "map gva=0x400000 gpa=0x5000\naccess fetch gva=0x400013 cpl=" + std::string(cpl) + "\n");
    EXPECT_EQ(seen.last().kind, OutcomeKind::kOk) << seen.last_text();
    EXPECT_EQ(seen.last().value, seed_word(0x5010));
    EXPECT_EQ(seen.last().gpa[0], 0x5013u);
  }
}

TEST_F(KvmSubjectTest, FetchOfDataGivesTheDataBack) {
  const Seen seen =
      run("map gva=0x400000 gpa=0x5000\naccess write gva=0x400000 value=0x1234\n"
          "access fetch gva=0x400000 cpl=3\n");
  EXPECT_EQ(seen.last().kind, OutcomeKind::kOk);
  EXPECT_EQ(seen.last().value, 0x1234u);
  std::uint64_t word = 0;
  ASSERT_TRUE(subject_->read_image(0x5000, word));
  EXPECT_EQ(word, 0x1234u);
}

TEST_F(KvmSubjectTest, FetchFaultNamesTheByte) {
  EXPECT_EQ(last("map gva=0x400000 gpa=0x5000 pte=p|w|u|xd\naccess fetch gva=0x400003 cpl=3\n"),
            "#PF ec=p|u|i cr2=0x400003");
}

TEST_F(KvmSubjectTest, GuestStoreThroughTheWindow) {
  const Seen seen = run(
      "write gpa=0x7ffd size=8 value=0x1122334455667788\nwrite gpa=0x4000000 size=4 value=0x1\n");
  EXPECT_THAT(seen.texts, ElementsAre("done", "mmio write gpa=0x4000000"));
  std::uint64_t word = 0;
  ASSERT_TRUE(subject_->read_image(0x8000, word));
  EXPECT_EQ(word & 0xff'ffff'ffff, 0x11'2233'4455u);
}

TEST_F(KvmSubjectTest, RunnersOwnSpaceIsSkipped) {
  const std::string skip = "skip host-lacks-feature";
  EXPECT_EQ(last("access read gva=0xffffff8000000000\n"), skip);
  EXPECT_EQ(last("access read gva=0xffffffffffffffff size=1\n"), skip);
  EXPECT_EQ(last("write gpa=0x100ff8 value=0x5000|p|w\n"), skip);
  EXPECT_EQ(last("write gpa=0x100ffe size=2 value=0x0 by=host\n"), skip);
  EXPECT_EQ(last("write gpa=0x3000ff8 value=0x5000|p|w\nmov cr3=0x3000000\n"), skip);
  EXPECT_EQ(last("slot-add slot=1 gpa=0xe54000000 pages=1 hva=0x7f0000000000\n"), skip);
  // A root mapped as data and as a table of its own: its last entry is the runner's.
  EXPECT_EQ(last("map gva=0x400000 gpa=0x100000\naccess read gva=0x400ff8\n"), skip);
  EXPECT_EQ(last("write gpa=0x100008 value=0x100000|p|w|u\naccess read gva=0xffffffe000\n"), skip);
}

TEST_F(KvmSubjectTest, HiddenRootEntryShowsInNoImage) {
  run("map gva=0x400000 gpa=0x5000\naccess read gva=0x400000\n");
  std::uint64_t word = 0;
  ASSERT_TRUE(subject_->read_image(0x100ff8, word));
  EXPECT_EQ(word, seed_word(0x100ff8));
}

TEST_F(KvmSubjectTest, SecondRootWorksAndStaysUsable) {
  const Seen seen =
      run("map gva=0x400000 gpa=0x5000\nmov cr3=0x3000000\nmap gva=0x400000 gpa=0x9000\n"
          "access read gva=0x400000 cpl=3\nmov cr3=0x100000\naccess read gva=0x400000 cpl=3\n");
  EXPECT_EQ(seen.last().value, seed_word(0x5000));
}

TEST_F(KvmSubjectTest, MemslotsComeAndGo) {
  const std::string head =
      "map gva=0x400000 gpa=0x10000000\nslot-add slot=1 gpa=0x10000000 pages=2 "
      "hva=0x7f0000006000\n";
  EXPECT_EQ(run(head + "access read gva=0x400000 cpl=3\n").last().value, seed_word(0x6000));
  EXPECT_EQ(
      last(head +
           "access read gva=0x400000 cpl=3\nslot-delete slot=1\naccess read gva=0x400000 cpl=3\n"),
      "mmio read gpa=0x10000000");
  EXPECT_EQ(last(head + "slot-flags slot=1 flags=ro\naccess write gva=0x400000 cpl=3\n"),
            "mmio write gpa=0x10000000");
  EXPECT_EQ(last(head + "slot-add slot=2 gpa=0x10001000 pages=1 hva=0x7f0000006000\n"), "refused");
  EXPECT_EQ(last(head + "slot-move slot=1 gpa=0x20000000\naccess read gva=0x400000 cpl=3\n"),
            "mmio read gpa=0x10000000");
}

TEST_F(KvmSubjectTest, DirtyLogHasWhatWasWritten) {
  const Seen seen =
      run("map gva=0x400000 gpa=0x10000000\nmap gva=0x401000 gpa=0x10001000\n"
          "slot-add slot=1 gpa=0x10000000 pages=4 hva=0x7f0000006000 flags=log\n"
          "access write gva=0x401000 cpl=3\nwrite gpa=0x10003000\ndirty-get slot=1\ndirty-get "
          "slot=1\n");
  const auto& steps = seen.stream.steps;
  const Outcome& first = steps[steps.size() - 2];
  ASSERT_EQ(first.extra_count, 2u);
  EXPECT_EQ(seen.stream.extra[first.extra_begin], 0x10001u);
  EXPECT_EQ(seen.stream.extra[first.extra_begin + 1], 0x10003u);
  EXPECT_EQ(steps.back().extra_count, 0u);
}

// The gfns that the last step has collected.
std::vector<std::uint64_t> collected(const Seen& seen) {
  const auto begin = seen.stream.extra.begin() + seen.last().extra_begin;
  return {begin, begin + seen.last().extra_count};
}

// A slot of 130 pages that logs, its pages 0, 65 and 129 written.
const std::string kLogged =
    "map gva=0x10000000 gpa=0x10000000\nmap gva=0x10041000 gpa=0x10041000\n"
    "map gva=0x10081000 gpa=0x10081000\n"
    "slot-add slot=1 gpa=0x10000000 pages=130 hva=0x7f0000006000 flags=log\n"
    "access write gva=0x10000000 cpl=3\naccess write gva=0x10041000 cpl=3\n"
    "access write gva=0x10081000 cpl=3\n";

TEST_F(KvmSubjectTest, DirtyRingsHaveWhatWasWritten) {
  const std::string head = "machine options=dirty-ring vcpus=2\n" + kLogged;
  EXPECT_THAT(collected(run(head + "dirty-get slot=1\n")), ElementsAre(0x10000, 0x10041, 0x10081));
  EXPECT_THAT(collected(run(head + "dirty-get slot=1\nwrite gpa=0x10002000 vcpu=1\n"
                                   "access write gva=0x10041000 cpl=3\ndirty-get slot=1\n")),
              ElementsAre(0x10002, 0x10041));
}

// KVM refuses to run a vCPU whose ring is full.
TEST_F(KvmSubjectTest, FullDirtyRingsAreEmptied) {
  std::string text =
      "machine options=dirty-ring\n"
      "slot-add slot=1 gpa=0x10000000 pages=1500 hva=0x7f0000006000 flags=log\n";
  for (int page = 0; page < 1500; ++page)
    text += "write gpa=" + std::to_string(0x1000'0000 + page * 0x1000) + "\n";
  EXPECT_EQ(collected(run(text + "dirty-get slot=1\n")).size(), 1500u);
}

TEST_F(KvmSubjectTest, ManuallyClearedLogKeepsWhatWasCollected) {
  const std::string head = "machine options=manual-clear\n" + kLogged + "dirty-get slot=1\n";
  EXPECT_THAT(collected(run(head + "dirty-get slot=1\n")), ElementsAre(0x10000, 0x10041, 0x10081));
  // Of a range that begins and ends amid words, only that.
  EXPECT_THAT(
      collected(run(head + "dirty-clear slot=1 gpa=0x10041000 pages=2\ndirty-get slot=1\n")),
      ElementsAre(0x10000, 0x10081));
  EXPECT_THAT(
      collected(run(head + "dirty-clear slot=1 gpa=0x10001000 pages=129\ndirty-get slot=1\n")),
      ElementsAre(0x10000));
  EXPECT_THAT(collected(run(head + "dirty-clear slot=1 gpa=0x10000000 pages=130\n"
                                   "access write gva=0x10081000 cpl=3\ndirty-get slot=1\n")),
              ElementsAre(0x10081));
  EXPECT_EQ(last(head + "dirty-clear slot=1 gpa=0x10000000 pages=131\n"), "refused");
  EXPECT_EQ(last(kLogged + "dirty-clear slot=1 gpa=0x10000000\n"), "refused");
}

TEST_F(KvmSubjectTest, LogMayBeSetAtFirst) {
  const std::string head = "machine options=manual-clear|initially-set\n" + kLogged;
  EXPECT_EQ(collected(run(head + "dirty-get slot=1\n")).size(), 130u);
  EXPECT_THAT(collected(run(head + "dirty-clear slot=1 gpa=0x10000000 pages=130\n"
                                   "access write gva=0x10041000 cpl=3\ndirty-get slot=1\n")),
              ElementsAre(0x10041));
}

TEST_F(KvmSubjectTest, NewVcpuHasTheRegistersOfTheStart) {
  EXPECT_THAT(run("mov cr3=0x200000\nmov cpl=3\nnew-vcpu\nget cr3\nget cpl\n").texts,
              ElementsAre("done", "done", "done", "ok value=0x100000", "ok"));
  EXPECT_EQ(run("map gva=0x400000 gpa=0x5000\naccess write gva=0x400000 value=0x7 cpl=3\n"
                "mov cr3=0x200000\nnew-vcpu\naccess read gva=0x400000 cpl=3\n")
                .last()
                .value,
            7u);
}

TEST_F(KvmSubjectTest, InvalidateGivesZeroes) {
  EXPECT_EQ(last("map gva=0x400000 gpa=0x5000\naccess read gva=0x400000 cpl=3\n"
                 "invalidate hva=0x7f0000005000 pages=1\naccess read gva=0x400000 cpl=3\n"),
            "ok");
}

TEST_F(KvmSubjectTest, RemapAndProtectKeepContents) {
  for (const char* event :
       {"remap hva=0x7f0000005000 pages=1\n", "protect hva=0x7f0000005000 pages=1 writable=0\n"}) {
    const Seen seen =
        run("map gva=0x400000 gpa=0x5000\naccess write gva=0x400000 value=0x77 cpl=3\n" +
            std::string(event) +
            "access write gva=0x400008 value=0x88 cpl=3\naccess read gva=0x400000 cpl=3\n");
    EXPECT_EQ(seen.last().value, 0x77u) << event;
    std::uint64_t word = 0;
    ASSERT_TRUE(subject_->read_image(0x5008, word));
    EXPECT_EQ(word, 0x88u) << event;
  }
}

TEST_F(KvmSubjectTest, InvalidatedRootKeepsTheRunnerAlive) {
  EXPECT_EQ(last("map gva=0x400000 gpa=0x5000\naccess read gva=0x400000\ninvalidate "
                 "hva=0x7f0000100000 pages=1\n"
                 "invlpg gva=0x400000\naccess read gva=0x400000\n"),
            "#PF ec=0 cr2=0x400000");
}

TEST_F(KvmSubjectTest, DeletedRootSkipsGuestSteps) {
  EXPECT_THAT(run("slot-delete slot=0\naccess read gva=0x400000\nslot-add slot=0 gpa=0x0 "
                  "pages=16384 hva=0x7f0000000000\n"
                  "access read gva=0x400000\n")
                  .texts,
              ElementsAre("done", "skip host-lacks-feature", "done", "#PF ec=0 cr2=0x400000"));
}

TEST_F(KvmSubjectTest, VcpusSeeEachOthersStores) {
  const Seen seen = run(
      "machine vcpus=2\nmap gva=0x400000 gpa=0x5000\naccess write gva=0x400000 value=0x9 cpl=3\n"
      "access read gva=0x400000 cpl=3 vcpu=1\n");
  EXPECT_EQ(seen.last().value, 9u);
}

TEST_F(KvmSubjectTest, WhatNobodyExecutesIsSkippedWithItsReason) {
  EXPECT_EQ(last("machine core=ept\naccess read gva=0x400000\n"), "skip mode-not-supported");
  EXPECT_EQ(last("mov pkru=0x4\n"), "skip feature-not-supported");
  EXPECT_EQ(last("machine options=dirty-ring|manual-clear\n" + kLogged +
                 "dirty-clear slot=1 gpa=0x10000000\n"),
            "skip host-lacks-feature");
  EXPECT_EQ(last("vm-exit\n"), "skip nested-not-supported");
  EXPECT_EQ(last("age hva=0x7f0000000000\n"), "skip host-lacks-feature");
}

TEST_F(KvmSubjectTest, GuestReadsItsOwnRegisters) {
  EXPECT_EQ(run("mov cr3=0x200000\nget cr3\n").last().value, 0x200000u);
  EXPECT_EQ(run("get efer\n").last().value, efer::kLme | efer::kLma | efer::kNxe);
  EXPECT_EQ(run("mov cpl=3\nget cpl\n").last().value, 3u);
}

TEST_F(KvmSubjectTest, SvmeIsOfGuestsThatAreOfferedSvm) {
  Host host;
  std::string why;
  ASSERT_TRUE(host.open(why)) << why;
  if (host.vendor() != Vendor::kAmd || (host.features() & feature::kSvm) != 0)
    GTEST_SKIP() << "this machine's KVM has another processor, or offers SVM";
  const std::string machine = "machine vendor=amd features=nx|pge|pse|pse36|pae|svm\n";
  EXPECT_EQ(last(machine + "mov efer=lme|lma|nxe|svme\n"), "skip host-lacks-feature");
  EXPECT_EQ(last(machine + "sregs efer=lme|lma|nxe|svme\n"), "skip host-lacks-feature");
  EXPECT_EQ(last(machine + "mov efer=lme|lma|nxe\n"), "done");
}

TEST_F(KvmSubjectTest, HostSetsRegistersOrIsRefused) {
  EXPECT_THAT(run("sregs cr3=0x200000\nget cr3\nsregs cr4=0\nget cr4\n").texts,
              ElementsAre("done", "ok value=0x200000",
                          testing::AnyOf("refused", "skip host-lacks-feature"), "ok value=0x20"));
}

// What a host with real modes does; one that has guests in 4-level mode only skips.
TEST_F(KvmSubjectTest, LegacyModesLoadAndStoreAtBothRings) {
  Host host;
  std::string why;
  ASSERT_TRUE(host.open(why));
  for (const char* mode : {"none", "32-bit", "pae"}) {
    for (const char* cpl : {"0", "3"}) {
      const Seen seen =
          run(std::string("machine mode=") + mode +
              "\nmap gva=0x5000 gpa=0x5000\naccess write gva=0x5008 value=0x42 cpl=" + cpl +
              "\naccess read gva=0x5008 cpl=" + cpl + "\n");
      if (host.only_4_level()) {
        EXPECT_EQ(seen.last_text(), "skip host-lacks-feature");
      } else {
        EXPECT_EQ(seen.last().value, 0x42u) << mode;
      }
    }
  }
}

TEST_F(KvmSubjectTest, SameProgramGivesTheSameStream) {
  const char* text =
      "map gva=0x400000 gpa=0x5000\naccess write gva=0x400000 cpl=3\naccess fetch gva=0x400000\n"
      "access read gva=0x401000 cpl=3\n";
  EXPECT_EQ(run(text).texts, run(text).texts);
}

}  // namespace
}  // namespace twinwalk::kvm
