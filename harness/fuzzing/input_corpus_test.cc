#include "harness/fuzzing/input_corpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "harness/fuzzing/programs.h"
#include "harness/testing/scratch_folder.h"

namespace twinwalk::fuzz {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

class InputCorpusTest : public ScratchFolder {
 protected:
  // Two traces that reach different parts of the core, and the second once more.
  void put_traces() const {
    const std::string load =
        "walk 1\nmachine core=shadow memory=64M vcpus=1\naccess read gva=0x0\n";
    const std::string store =
        "walk 1\nmachine core=shadow memory=64M vcpus=1\nmap gva=0x400000 gpa=0x5000\n"
        "access write gva=0x400000\ninvlpg gva=0x400000\naccess read gva=0x400000\n";
    put("in/load.walk", load);
    put("in/store.walk", store);
    put("in/below/again.walk", store);
  }
};

TEST_F(InputCorpusTest, ListsAFileAndAFolder) {
  put("in/b", "1");
  put("in/a", "2");
  put("in/deep/c", "3");
  put("in/.state/d", "4");
  put("in/.e", "5");
  EXPECT_THAT(list_inputs(at("in")), ElementsAre(at("in/a"), at("in/b"), at("in/deep/c")));
  EXPECT_THAT(list_inputs(at("in/a")), ElementsAre(at("in/a")));
}

TEST_F(InputCorpusTest, OfAflItListsTheQueues) {
  for (const char* instance : {"w0", "w1"}) {
    put(std::string("afl/") + instance + "/fuzzer_setup", "");
    put(std::string("afl/") + instance + "/fuzzer_stats", "");
    put(std::string("afl/") + instance + "/queue/id:0", "1");
    put(std::string("afl/") + instance + "/queue/.state/id:0", "1");
    put(std::string("afl/") + instance + "/crashes/id:0", "1");
  }
  EXPECT_THAT(list_inputs(at("afl")),
              ElementsAre(at("afl/w0/queue/id:0"), at("afl/w1/queue/id:0")));
  EXPECT_THAT(list_inputs(at("afl/w1")), ElementsAre(at("afl/w1/queue/id:0")));
}

TEST_F(InputCorpusTest, TellsOfATargetThatDoesNotRun) {
  put_traces();
  InputCorpus tools("/bin/false", "all", at("work"));
  EXPECT_THAT(tools.merge(at("out"), {at("in")}), HasSubstr("/bin/false failed"));
}

TEST_F(InputCorpusTest, AFailedMinimiseLeavesTheFolder) {
  put_traces();
  InputCorpus none("/bin/false", "all", at("work"));
  EXPECT_THAT(none.minimise(at("in")), HasSubstr("/bin/false failed"));
  InputCorpus keeps_nothing("/bin/true", "all", at("work2"));
  EXPECT_THAT(keeps_nothing.minimise(at("in")), HasSubstr("kept no input"));
  EXPECT_EQ(list_inputs(at("in")).size(), 3u);
  EXPECT_FALSE(fs::exists(at(".in.new")));
}

// These need a worker; there is one in builds with TWINWALK_FUZZ.
class WithTarget : public InputCorpusTest {
 protected:
  void SetUp() override {
    InputCorpusTest::SetUp();
    program_ = find_programs().worker;
    if (program_.empty()) GTEST_SKIP() << "no fuzz target in this build";
    put_traces();
  }
  InputCorpus tools() const { return InputCorpus(program_, "shadow-64", at("work")); }
  std::string program_;
};

TEST_F(WithTarget, MergeTakesWhatIsNewAndNothingTwice) {
  InputCorpus t = tools();
  ASSERT_EQ(t.merge(at("out"), {at("in/load.walk")}), "");
  EXPECT_EQ(list_inputs(at("out")).size(), 1u);
  ASSERT_EQ(t.merge(at("out"), {at("in")}), "");
  EXPECT_EQ(list_inputs(at("out")).size(), 2u);
  ASSERT_EQ(t.merge(at("out"), {at("in")}), "");
  EXPECT_EQ(list_inputs(at("out")).size(), 2u);
}

TEST_F(WithTarget, TheFewestReachTheSame) {
  InputCorpus t = tools();
  CorpusStat before, after;
  ASSERT_EQ(t.stat(at("in"), before), "");
  ASSERT_EQ(t.minimise(at("in")), "");
  ASSERT_EQ(t.stat(at("in"), after), "");
  EXPECT_EQ(before.inputs, 2u);  // one is there twice
  EXPECT_LE(after.inputs, before.inputs);
  EXPECT_EQ(after.reach.edges, before.reach.edges);
  EXPECT_EQ(after.reach.mmu_states, before.reach.mmu_states);
  EXPECT_GT(after.reach.edges, 100u);
  EXPECT_GT(after.reach.mmu_states, 0u);
  EXPECT_FALSE(fs::exists(at(".in.new")));
}

TEST_F(WithTarget, StatCountsMachinesAndOperations) {
  InputCorpus t = tools();
  CorpusStat stat;
  ASSERT_EQ(t.stat(at("in"), stat), "");
  EXPECT_EQ(stat.operations, 5u);
  EXPECT_EQ(stat.machines.at("shadow 4-level"), 2u);
  EXPECT_EQ(stat.reach.divergences, 0u);
}

}  // namespace
}  // namespace twinwalk::fuzz
