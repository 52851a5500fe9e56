#include "harness/fuzzing/fleet.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "harness/fuzzing/fuzz.h"
#include "harness/fuzzing/input_corpus.h"
#include "harness/fuzzing/worker.h"
#include "harness/testing/scratch_folder.h"

namespace twinwalk::fuzz {
namespace {

namespace fs = std::filesystem;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;

const std::string kFoundName(40, 'a');  // as libFuzzer names what it finds

class FleetTest : public ScratchFolder {
 protected:
  std::string text(const std::string& name) const {
    std::ostringstream out;
    out << std::ifstream(root_ / name, std::ios::binary).rdbuf();
    return out.str();
  }
  std::vector<std::string> names(const std::string& folder) const {
    std::vector<std::string> out;
    for (const auto& entry : fs::directory_iterator(root_ / folder))
      out.push_back(entry.path().filename().string());
    std::sort(out.begin(), out.end());
    return out;
  }
  std::vector<std::string> texts(const std::string& folder) const {
    std::vector<std::string> out;
    for (const std::string& name : names(folder))
      out.push_back(text((fs::path(folder) / name).string()));
    std::sort(out.begin(), out.end());
    return out;
  }
  // What one look saw first the next one takes.
  static void look_twice(CorpusExchange& exchange) {
    EXPECT_EQ(exchange.look(), "");
    EXPECT_EQ(exchange.look(), "");
  }
};

TEST(SyncFolder, AnEntrysNameSaysWhereItIsFrom) {
  std::string from;
  EXPECT_EQ(origin_of("id:000000,time:0,execs:0,orig:seed-1", from), Origin::kSeed);
  EXPECT_EQ(origin_of("id:000009,src:000001,time:7,execs:8,op:havoc,rep:2,+cov", from),
            Origin::kFound);
  EXPECT_EQ(from, "");
  EXPECT_EQ(origin_of("id:000010,sync:a-libfuzzer,src:000003,+cov", from), Origin::kTaken);
  EXPECT_EQ(from, "a-libfuzzer");
  EXPECT_TRUE(is_queued("id:000010,src:000003"));
  EXPECT_FALSE(is_queued(".id:000010,src:000003.f3Yq2Z")) << "rsync is not done with it";
  EXPECT_FALSE(is_queued(".state"));
}

TEST_F(FleetTest, AFileArrivesOnceInTheLookAfterTheFirst) {
  Arrivals arrivals;
  put("q/id:1", "1");
  EXPECT_THAT(arrivals.look(at("q"), is_queued), IsEmpty());
  put("q/id:0", "0");
  put("q/.id:2.xyz", "2");
  EXPECT_THAT(arrivals.look(at("q"), is_queued), ElementsAre("id:1"));
  EXPECT_THAT(arrivals.look(at("q"), is_queued), ElementsAre("id:0"));
  EXPECT_THAT(arrivals.look(at("q"), is_queued), IsEmpty());
  EXPECT_THAT(arrivals.look(at("none"), is_queued), IsEmpty());
}

TEST_F(FleetTest, FindsAreGivenAndSeedsAreNot) {
  put("corpus/seed-1", "seed");
  CorpusExchange exchange;
  ASSERT_EQ(exchange.start(at("corpus"), at("sync"), "a-libfuzzer"), "");
  put("corpus/" + kFoundName, "found");
  put("corpus/" + std::string(40, 'b'), "found, too");
  look_twice(exchange);
  EXPECT_THAT(
      names("sync/a-libfuzzer/queue"),
      ElementsAre("id:000000,sha1:" + kFoundName, "id:000001,sha1:" + std::string(40, 'b')));
  EXPECT_EQ(text("sync/a-libfuzzer/queue/id:000000,sha1:" + kFoundName), "found");
  EXPECT_EQ(exchange.origins().own, 2u);
  EXPECT_THAT(exchange.origins().taken, IsEmpty());
}

TEST_F(FleetTest, WhatOthersHaveIsTakenOnceAndNotGivenBack) {
  put("corpus/seed-1", "seed");
  CorpusExchange exchange;
  ASSERT_EQ(exchange.start(at("corpus"), at("sync"), "a-libfuzzer"), "");
  put("sync/b-0/queue/id:000000,orig:x", "seed");
  put("sync/b-0/queue/id:000001,src:000000", "new");
  put("sync/b-0/queue/.id:000002.Xy12", "half of so");
  put("sync/b-0/queue/.state/id:000001", "a note");
  put("sync/b-0/queue/id:000003,src:000001", std::string(kMaxInput + 1, 'x'));
  put("sync/b-0/queue/id:000004,src:000001", "");
  put("sync/b-1/queue/id:000000,sync:b-0,src:000001", "new");
  put("sync/b-1/crashes/id:000000", "crash");
  look_twice(exchange);
  EXPECT_THAT(texts("corpus"), ElementsAre("new", "seed"));
  EXPECT_THAT(exchange.origins().taken, ElementsAre(Pair("b-0", 1u)));
  // A worker that finds the same by itself.
  put("corpus/" + kFoundName, "new");
  look_twice(exchange);
  EXPECT_THAT(names("sync/a-libfuzzer/queue"), IsEmpty());
  EXPECT_EQ(exchange.origins().own, 0u);
}

TEST_F(FleetTest, ARunOfTheSameNameGoesOn) {
  {
    CorpusExchange first;
    ASSERT_EQ(first.start(at("one"), at("sync"), "a-libfuzzer"), "");
    put("one/" + kFoundName, "found");
    put("sync/b-0/queue/id:000000,src:0", "theirs");
    look_twice(first);
    EXPECT_EQ(first.origins().all_taken(), 1u);
  }
  CorpusExchange again;  // in its former folder
  ASSERT_EQ(again.start(at("one"), at("sync"), "a-libfuzzer"), "");
  look_twice(again);
  EXPECT_EQ(again.origins().own, 1u);
  EXPECT_THAT(again.origins().taken, ElementsAre(Pair("b-0", 1u)));
  CorpusExchange elsewhere;
  fs::create_directories(root_ / "two");
  ASSERT_EQ(elsewhere.start(at("two"), at("sync"), "a-libfuzzer"), "");
  EXPECT_THAT(texts("two"), ElementsAre("found"));
  put("two/" + std::string(40, 'c'), "more");
  look_twice(elsewhere);
  EXPECT_THAT(names("sync/a-libfuzzer/queue"),
              ElementsAre("id:000000,sha1:" + kFoundName, "id:000001,sha1:" + std::string(40, 'c')))
      << "numbers without a gap: AFL++ stops at one";
}

TEST_F(FleetTest, WhatIsFoundLastIsGivenAtTheEnd) {
  put("corpus/seed-1", "seed");
  CorpusExchange exchange;
  ASSERT_EQ(exchange.start(at("corpus"), at("sync"), "a-libfuzzer"), "");
  put("corpus/" + kFoundName, "found");
  EXPECT_EQ(exchange.give_rest(), "");
  EXPECT_EQ(names("sync/a-libfuzzer/queue").size(), 1u);
}

TEST_F(FleetTest, ALargeQueueTakesSeveralLooks) {
  fs::create_directories(root_ / "corpus");
  CorpusExchange exchange;
  ASSERT_EQ(exchange.start(at("corpus"), at("sync"), "a-libfuzzer"), "");
  for (unsigned i = 0; i < 1000; ++i)
    put("sync/b-0/queue/id:" + std::to_string(i), "input " + std::to_string(i));
  look_twice(exchange);
  EXPECT_FALSE(exchange.listed_all());
  for (unsigned n = 0; n < 10 && !exchange.listed_all(); ++n) EXPECT_EQ(exchange.look(), "");
  EXPECT_EQ(exchange.origins().all_taken(), 1000u);
  EXPECT_EQ(names("corpus").size(), 1000u);
}

TEST_F(FleetTest, ASharedFolderThatCannotBeWrittenIsSaid) {
  fs::create_directories(root_ / "corpus");
  CorpusExchange exchange;
  ASSERT_EQ(exchange.start(at("corpus"), at("sync"), "a-libfuzzer"), "");
  fs::remove_all(root_ / "sync");
  put("corpus/" + kFoundName, "found");
  EXPECT_EQ(exchange.look(), "");
  EXPECT_THAT(exchange.look(), HasSubstr("cannot write"));
  EXPECT_EQ(exchange.origins().own, 0u);
  EXPECT_EQ(exchange.look(), "") << "told once";
}

TEST_F(FleetTest, NamesThatAflWouldRefuseAreRefused) {
  EXPECT_EQ(bad_fleet_name("left_2-b"), "");
  EXPECT_EQ(bad_fleet_name(std::string(kMaxFleetName, 'x')), "");
  for (const std::string& bad : {std::string(), std::string("a/b"), std::string("a.b"),
                                 std::string("a b"), std::string(kMaxFleetName + 1, 'x')}) {
    EXPECT_NE(bad_fleet_name(bad), "") << bad;
    if (bad.empty()) continue;
    Fleet fleet;
    EXPECT_NE(fleet.join(at("sync"), bad), "") << bad;
    EXPECT_FALSE(fleet.joined());
  }
  EXPECT_FALSE(fs::exists(at("sync")));
  EXPECT_EQ(bad_fleet_name(machine_name()), "");
}

TEST_F(FleetTest, TwoRunsHaveTwoNamesAndOneMain) {
  Fleet second;
  {
    Fleet first, other;
    ASSERT_EQ(first.join(at("sync"), "a"), "");
    EXPECT_EQ(first.instance(3), "a-3");
    EXPECT_THAT(second.join(at("sync"), "a"), HasSubstr("a run named a is at work"));
    EXPECT_FALSE(second.joined());
    ASSERT_EQ(other.join(at("sync/../sync"), "b"), "");
    EXPECT_EQ(other.folder(), first.folder());
    EXPECT_TRUE(first.become_main());
    EXPECT_FALSE(other.become_main());
  }
  ASSERT_EQ(second.join(at("sync"), "a"), "") << "once it has ended";
  EXPECT_TRUE(second.become_main());
}

TEST_F(FleetTest, RunsWithoutANameHaveTheMachines) {
  Fleet first, second;
  ASSERT_EQ(first.join(at("sync"), ""), "");
  ASSERT_EQ(second.join(at("sync"), ""), "");
  EXPECT_EQ(first.name(), machine_name());
  EXPECT_EQ(second.name(), machine_name() + "_2");
}

TEST_F(FleetTest, AFolderThatCannotBeIsRefused) {
  put("file", "x");
  Fleet fleet;
  EXPECT_NE(fleet.join(at("file"), "a"), "");
  EXPECT_NE(fleet.join(at("file/below"), "a"), "");
  EXPECT_FALSE(fleet.joined());
}

TEST_F(FleetTest, OriginsOfAflAreThoseOfItsOwnInstances) {
  Fleet fleet;
  ASSERT_EQ(fleet.join(at("sync"), "a"), "");
  put("sync/a-0/queue/id:000000,orig:seed", "1");
  put("sync/a-0/queue/id:000001,src:000000,op:x", "2");
  put("sync/a-0/queue/id:000002,sync:b-libfuzzer,src:000000", "3");
  put("sync/a-1/queue/id:000000,sync:a-0,src:000001", "2");
  put("sync/a-b-0/queue/id:000000,src:000001", "of a run named a-b");
  put("sync/a-libfuzzer/queue/id:000000,sha1:0", "of a's, with the other engine");
  EXPECT_EQ(fleet.tend(0), "");
  EXPECT_EQ(fleet.origins().own, 1u);
  EXPECT_THAT(fleet.origins().taken, ElementsAre(Pair("b-libfuzzer", 1u)));
  EXPECT_EQ(to_text(fleet.origins()), "1 inputs of its own, 1 taken over (1 from b-libfuzzer)");
}

TEST_F(FleetTest, TheWholeFleetIsACorpus) {
  put("sync/a-0/fuzzer_setup", "");
  put("sync/a-0/queue/id:0", "1");
  put("sync/b-libfuzzer/queue/id:0", "2");
  put("sync/.a.lock", "");
  EXPECT_THAT(list_inputs(at("sync")),
              ElementsAre(at("sync/a-0/queue/id:0"), at("sync/b-libfuzzer/queue/id:0")));
}

TEST(WorkerCommand, OneInstanceIsTheMain) {
  WorkerPlan plan;
  plan.engine = Engine::kAfl;
  plan.program = "/bin/target";
  plan.corpus = "/seeds";
  plan.afl_output = "/sync";
  plan.afl_instance = "a-0";
  plan.afl_main = true;
  const auto words = [&](unsigned restarts) {
    std::string line;
    for (const std::string& word : command_of(plan, restarts).words) line += word + ' ';
    return line;
  };
  EXPECT_THAT(words(0), HasSubstr("afl-fuzz -i /seeds -o /sync -M a-0 "));
  EXPECT_THAT(words(0), HasSubstr(" -G 4096 "));
  EXPECT_THAT(words(1), HasSubstr("afl-fuzz -i - -o /sync -M a-0 "));
  plan.afl_main = false;
  EXPECT_THAT(words(0), HasSubstr(" -S a-0 "));
  const auto environment = command_of(plan, 0).environment;
  EXPECT_THAT(environment, Contains(Pair("AFL_AUTORESUME", "1"))) << "what is there is kept";
  EXPECT_THAT(environment, Contains(Pair("AFL_SYNC_TIME", "1")));
}

TEST(WorkerCommand, LibFuzzersWorkersShareTheirRunsCorpusAlone) {
  WorkerPlan plan;
  plan.program = "/bin/target";
  plan.corpus = "/out/corpus";
  const auto words = command_of(plan, 0).words;
  EXPECT_THAT(words, Contains("/out/corpus"));
  EXPECT_THAT(words, Contains("-reload=1"));
  EXPECT_THAT(words, Contains("-max_len=4096"));
}

TEST_F(FleetTest, BadOptionsAreOneLineAndExit2) {
  FuzzOptions together, alone, bad;
  together.sync = at("sync");
  together.corpus = at("corpus");
  alone.name = "a";
  bad.sync = at("sync");
  bad.name = "a/b";
  for (FuzzOptions* options : {&together, &alone, &bad}) {
    options->out = at("out");
    options->jobs = 1;
    testing::internal::CaptureStderr();
    EXPECT_EQ(run_fuzz(*options), 2);
    const std::string said = testing::internal::GetCapturedStderr();
    EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
    EXPECT_FALSE(fs::exists(at("out")));
    EXPECT_FALSE(fs::exists(at("sync")));
  }
}

}  // namespace
}  // namespace twinwalk::fuzz
