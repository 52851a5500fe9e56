#include "harness/bare_subject.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "harness/trace/content.h"
#include "harness/trace/parse.h"

namespace twinwalk {
namespace {

using testing::ElementsAre;
using testing::StartsWith;

class BareTest : public testing::Test {
 protected:
  BareTest() : subject(make_bare_subject()) {}

  // What the operations that are not maps, writes or entries gave.
  std::vector<std::string> run(const std::string& text) {
    const ParseResult parsed = parse(text, "test");
    EXPECT_TRUE(parsed) << (parsed.error ? to_text(*parsed.error) : "");
    lowering.lower(parsed.trace, program);
    subject->run(program, out);
    EXPECT_EQ(out.steps.size(), program.steps.size());
    std::vector<std::string> seen;
    for (std::size_t i = 0; i < out.steps.size(); ++i) {
      const Verb verb = program.steps[i].what.verb;
      const bool quiet = verb == Verb::kWrite || verb == Verb::kVmEnter || verb == Verb::kVmExit;
      if (quiet && out.steps[i].kind == OutcomeKind::kDone) continue;
      seen.push_back(to_text(out.steps[i]));
    }
    return seen;
  }
  std::vector<std::uint64_t> extra(std::size_t step) const {
    const Outcome& o = out.steps[step];
    return {out.extra.begin() + o.extra_begin, out.extra.begin() + o.extra_begin + o.extra_count};
  }

  std::unique_ptr<Subject> subject;
  Lowering lowering;
  Program program;
  OutcomeStream out;
};

// Identity for the first tables of the guest, and its page.
const std::string kEpt =
    "walk 1\nmachine core=bare nested=ept memory=64M vcpus=1\n"
    "ept-map ngpa=0x100000 gpa=0x100000\nept-map ngpa=0x101000 gpa=0x101000\n"
    "ept-map ngpa=0x102000 gpa=0x102000\nept-map ngpa=0x103000 gpa=0x103000\n"
    "map gva=0x400000 gpa=0x5000\n";
const std::string kNpt =
    "walk 1\nmachine core=bare nested=npt memory=64M vcpus=1 vendor=amd host-levels=4\n"
    "npt-map ngpa=0x100000 gpa=0x100000\nnpt-map ngpa=0x101000 gpa=0x101000\n"
    "npt-map ngpa=0x102000 gpa=0x102000\nnpt-map ngpa=0x103000 gpa=0x103000\n"
    "map gva=0x400000 gpa=0x5000\n";

TEST_F(BareTest, IsAProcessorOfItsOwn) {
  EXPECT_THAT(run("walk 1\nmachine core=bare memory=64M vcpus=1\nmap gva=0x400000 gpa=0x5000\n"
                  "access read gva=0x400000\naccess read gva=0x500000\n"
                  "map gva=0x401000 gpa=0x8000000\naccess write gva=0x401008\n"
                  "write gpa=0x8000000\nmov cr3=0xffffffffff000\nget cr3\n"),
              ElementsAre(StartsWith("ok gpa=0x5000 value="), "#PF ec=0 cr2=0x500000",
                          "mmio write gpa=0x8000008", "mmio write gpa=0x8000000", "#GP",
                          "ok value=0x100000"));
  EXPECT_EQ(out.steps[4].path[0].count, 4);
  EXPECT_EQ(out.steps[4].path[0].entry[3], 0x5027u);
  EXPECT_EQ(subject->info().profile, Profile::kArchitecture);
}

TEST_F(BareTest, EntersAndLeavesAGuest) {
  EXPECT_THAT(run(kEpt + "vm-enter\naccess read gva=0x400000\n"
                         "ept-map ngpa=0x5000 gpa=0x7000\naccess read gva=0x400000\n"
                         "vm-exit\naccess read gva=0x400000\n"),
              ElementsAre("ept-violation qual=read|gva|final|gu|gw gpa=0x5000 gva=0x400000",
                          StartsWith("ok gpa=0x7000 value="), StartsWith("ok gpa=0x5000 value=")));
}

TEST_F(BareTest, PathsGoThroughTheSecondDimension) {
  run(kEpt + "vm-enter\nept-map ngpa=0x5000 gpa=0x7000\naccess write gva=0x400000\n");
  const Path& path = out.steps.back().path[0];
  EXPECT_EQ(path.count, 4);
  EXPECT_EQ(path.entry[3], 0x5067u);
  std::uint64_t word = 0;
  EXPECT_TRUE(subject->read_image(0x7000, word));
  EXPECT_EQ(word, store_stamp(static_cast<std::uint32_t>(out.steps.size() - 1)));
}

TEST_F(BareTest, LogsWhatGetsDirty) {
  run(kEpt +
      "vm-enter root=0x140000|wb|4-level|ad\nept-map ngpa=0x5000 gpa=0x7000\n"
      "access write gva=0x400000\npml-get\npml-get\n");
  const std::size_t last = out.steps.size() - 1;
  EXPECT_THAT(extra(last - 1), ElementsAre(0x100000, 0x101000, 0x102000, 0x103000, 0x5000));
  EXPECT_TRUE(extra(last).empty());
}

TEST_F(BareTest, Vpid0IsDroppedByEveryExit) {
  const std::string guest =
      "ept-map ngpa=0x5000 gpa=0x5000\naccess read gva=0x400000\n"
      "write gpa=0x103000 value=0x7000|p|w|u\nept-map ngpa=0x7000 gpa=0x7000\n"
      "access read gva=0x600000\naccess read gva=0x400000\n";
  EXPECT_THAT(run(kEpt +
                  "map gva=0x600000 gpa=0x9000\nept-map ngpa=0x104000 gpa=0x104000\n"
                  "vm-enter vpid=0\n" +
                  guest)[2],
              StartsWith("ok gpa=0x7000"));
  EXPECT_THAT(run(kEpt +
                  "map gva=0x600000 gpa=0x9000\nept-map ngpa=0x104000 gpa=0x104000\n"
                  "vm-enter vpid=1\n" +
                  guest)[2],
              StartsWith("ok gpa=0x5000"));
}

TEST_F(BareTest, OperandsThatAreNotTaken) {
  EXPECT_THAT(run(kEpt + "vm-enter root=0x140000|4-level|0x1\nvm-enter root=0x140000|wb|5-level\n"
                         "invept type=0\ninvept type=3\ninvept type=1 root=0x140000|wb\n"
                         "invvpid type=1\ninvvpid type=4 vpid=1\n"
                         "invvpid type=0 vpid=1 gva=0x800000000000\n"),
              testing::Each("vm-fail"));
  EXPECT_THAT(run(kEpt + "invept type=2\ninvept type=1\ninvvpid type=2\ninvvpid type=0 vpid=3\n"),
              testing::Each("done"));
  EXPECT_THAT(run(kNpt + "vm-enter vpid=0\nvm-enter vpid=1 tlb=2\n"), testing::Each("vm-fail"));
}

TEST_F(BareTest, NestedFaultsAndAsids) {
  EXPECT_THAT(run(kNpt + "vm-enter\naccess read gva=0x400000\nnpt-map ngpa=0x5000 gpa=0x7000\n"
                         "access read gva=0x400000\nnpt-map ngpa=0x5000 gpa=0x8000\n"
                         "access read gva=0x400000\nvm-enter tlb=3\naccess read gva=0x400000\n"
                         "invlpga gva=0x400000 asid=1\ninvept type=2\n"),
              ElementsAre("#NPF code=u|final gpa=0x5000", StartsWith("ok gpa=0x7000"),
                          StartsWith("ok gpa=0x7000"), StartsWith("ok gpa=0x8000"), "done",
                          "skip nested-not-supported"));
}

TEST_F(BareTest, PdptesAreLoadedThroughTheSecondDimension) {
  EXPECT_THAT(run("walk 1\nmachine core=bare nested=ept memory=64M vcpus=1 mode=pae\n"
                  "vm-enter\nmov cr3=0x100020\nept-map ngpa=0x100000 gpa=0x8000\n"
                  "write gpa=0x8028 value=0x2\nmov cr3=0x100020\nwrite gpa=0x8028 value=0x3\n"
                  "mov cr3=0x100020\n"),
              ElementsAre("ept-violation qual=read gpa=0x100020", "done", "#GP"));
}

TEST_F(BareTest, WhatItLacksIsSkipped) {
  EXPECT_THAT(run("walk 1\nmachine core=bare memory=64M vcpus=1\nvm-enter\ninvept type=2\n"
                  "smm enter=1\nzap-all\n"),
              ElementsAre("skip nested-not-supported", "skip nested-not-supported",
                          "skip verb-not-supported", "skip verb-not-supported"));
  EXPECT_THAT(run("walk 1\nmachine core=shadow memory=64M vcpus=1\nget cr0\n"),
              ElementsAre("skip mode-not-supported"));
}

}  // namespace
}  // namespace twinwalk
