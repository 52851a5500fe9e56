#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "harness/fuzzing/atomic_file.h"
#include "harness/fuzzing/candidate_store.h"
#include "harness/fuzzing/child.h"
#include "harness/fuzzing/config.h"
#include "harness/fuzzing/fuzz.h"
#include "harness/fuzzing/output.h"
#include "harness/fuzzing/programs.h"
#include "harness/fuzzing/seeds.h"
#include "harness/fuzzing/summary.h"
#include "harness/fuzzing/worker.h"
#include "harness/fuzzing/worker_stats.h"
#include "harness/testing/scratch_folder.h"
#include "harness/trace/binary.h"
#include "harness/trace/schema.h"

namespace twinwalk::fuzz {
namespace {

namespace fs = std::filesystem;

// A folder of its own for each test, gone afterwards.
class Folder : public ScratchFolder {
 protected:
  std::string text(const std::string& path) const {
    std::string out;
    EXPECT_TRUE(read_file(path, 1 << 20, out)) << path;
    return out;
  }
  std::size_t files(const std::string& folder) const {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
  }
};

Trace trace_of(unsigned number) {
  Trace t;
  t.ops.push_back(make_op(Verb::kAccess));
  set(t.ops[0], Field::kGva, number * 4096u);
  return t;
}

using AtomicFile = Folder;

TEST_F(AtomicFile, WritesAndReplacesWithoutLeavingPartsBehind) {
  EXPECT_EQ(write_atomically(at("f"), std::string_view("one")), "");
  EXPECT_EQ(write_atomically(at("f"), std::string_view("two")), "");
  EXPECT_EQ(text(at("f")), "two");
  EXPECT_EQ(files(root_.string()), 1u);
}

TEST_F(AtomicFile, SaysWhyItCannotWrite) {
  const std::string why = write_atomically(at("no/such/folder"), std::string_view("x"));
  EXPECT_NE(why.find("No such file"), std::string::npos) << why;
}

// A full disk, played by a limit on file sizes: the old file stays whole and nothing is left
// behind.
TEST_F(AtomicFile, AFullDiskLeavesTheOldFileWhole) {
  ASSERT_EQ(write_atomically(at("f"), std::string_view("old")), "");
  Child child;
  ASSERT_TRUE(child.call([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
    return write_atomically(at("f"), std::string(5000, 'x')).empty() ? 2 : 0;
  }));
  ASSERT_TRUE(child.wait(20));
  EXPECT_EQ(child.exit_code(), 0);
  EXPECT_EQ(text(at("f")), "old");
  EXPECT_EQ(files(root_.string()), 1u);
}

// Killed at any moment, a writer leaves whole files only.
TEST_F(AtomicFile, AKilledWriterLeavesWholeFiles) {
  const std::string big(1 << 18, 'y');
  for (int round = 0; round < 8; ++round) {
    Child child;
    ASSERT_TRUE(child.call([&] {
      for (;;) write_atomically(at("f"), big);
      return 0;
    }));
    std::this_thread::sleep_for(std::chrono::milliseconds(3 + 7 * round));
    child.send(SIGKILL);
    ASSERT_TRUE(child.wait(20));
    std::string got;
    if (read_file(at("f"), 1 << 20, got)) {
      ASSERT_EQ(got, big);
    }
  }
}

using Candidates = Folder;

TEST_F(Candidates, OneFileATraceThatReadsBack) {
  CandidateStore store(root_.string());
  EXPECT_EQ(store.keep(trace_of(1), DivergenceClass::kMissedFault, 7),
            CandidateStore::Kept::kWritten);
  const auto paths = list_candidates(root_.string());
  ASSERT_EQ(paths.size(), 1u);
  EXPECT_NE(paths[0].find("missed-fault-"), std::string::npos);
  const std::string bytes = text(paths[0]);
  Trace back;
  EXPECT_TRUE(
      decode({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}, back).whole);
  EXPECT_EQ(back.ops, trace_of(1).ops);
}

TEST_F(Candidates, AFloodOfOneFindingIsThinnedAndHidesNoOther) {
  CandidateStore store(root_.string());
  for (unsigned i = 0; i < 1000; ++i) store.keep(trace_of(i), DivergenceClass::kWrongFrame, 1);
  const std::size_t flood = list_candidates(root_.string()).size();
  EXPECT_EQ(flood, 10u);  // 1, 2, 4, ... 512
  EXPECT_EQ(store.keep(trace_of(5000), DivergenceClass::kWrongFrame, 2),
            CandidateStore::Kept::kWritten);
  EXPECT_EQ(store.keep(trace_of(5001), DivergenceClass::kEscape, 1),
            CandidateStore::Kept::kWritten);
}

TEST_F(Candidates, AClassFillsItsShareAndNoMore) {
  CandidateStore store(root_.string());
  for (unsigned i = 0; i < 500; ++i) store.keep(trace_of(i), DivergenceClass::kTrap, i);
  EXPECT_EQ(list_candidates(root_.string()).size(), CandidateStore::kPerClass);
}

TEST_F(Candidates, AFailureIsSaid) {
  CandidateStore store(at("missing"));
  EXPECT_EQ(store.keep(trace_of(1), DivergenceClass::kTrap, 1), CandidateStore::Kept::kFailed);
  EXPECT_NE(store.error().find("No such file"), std::string::npos);
}

using Stats = Folder;

TEST_F(Stats, CountsCrossProcessesAndSurviveAKill) {
  StatsFile file;
  ASSERT_EQ(file.create(at("stats")), "");
  Child child;
  ASSERT_TRUE(child.call([&] {
    StatsFile own;
    if (!own.open(at("stats"))) return 1;
    for (;;) add(own->execs, 1);
    return 0;
  }));
  for (int i = 0; i < 400 && file->execs.load() < 1000; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  child.send(SIGKILL);
  ASSERT_TRUE(child.wait(20));
  const std::uint64_t seen = file->execs.load();
  EXPECT_GE(seen, 1000u);
  StatsFile again;
  ASSERT_TRUE(again.open(at("stats")));
  EXPECT_EQ(again->execs.load(), seen);
}

TEST_F(Stats, WhyAFindingIsLostIsTold) {
  StatsFile file;
  ASSERT_EQ(file.create(at("stats")), "");
  note_lost(*file.get(), "cannot write x: No space left on device");
  EXPECT_EQ(file->lost.load(), 1u);
  EXPECT_STREQ(file->why_lost, "cannot write x: No space left on device");
  note_lost(*file.get(), std::string(2 * kWhySize, 'y'));
  EXPECT_EQ(std::string(file->why_lost), std::string(kWhySize - 1, 'y')) << "cut, and ended";
}

TEST_F(Stats, OtherFilesAreRefused) {
  ASSERT_EQ(write_atomically(at("x"), std::string(sizeof(WorkerStats), 'x')), "");
  ASSERT_EQ(write_atomically(at("y"), std::string_view("short")), "");
  StatsFile file;
  EXPECT_FALSE(file.open(at("x")));
  EXPECT_FALSE(StatsFile().open(at("y")));
  EXPECT_FALSE(StatsFile().open(at("z")));
}

TEST_F(Stats, SamplesComeOutInOrderAndAFullRingRefuses) {
  StatsFile file;
  ASSERT_EQ(file.create(at("stats")), "");
  SampleRing& ring = file->samples;
  std::vector<std::uint8_t> out;
  EXPECT_FALSE(ring.pop(out));
  for (std::uint8_t i = 0; i < SampleRing::kSlots; ++i) EXPECT_TRUE(ring.push(&i, 1));
  const std::uint8_t more = 99;
  EXPECT_FALSE(ring.push(&more, 1));
  for (std::uint8_t i = 0; i < SampleRing::kSlots; ++i) {
    ASSERT_TRUE(ring.pop(out));
    EXPECT_EQ(out, std::vector<std::uint8_t>{i});
  }
  const std::vector<std::uint8_t> large(SampleRing::kMaxSize + 1);
  EXPECT_FALSE(ring.push(large.data(), large.size()));
  EXPECT_TRUE(ring.push(&more, 1));
}

TEST(Config, EachIsAFixedPointOfItsOwn) {
  EXPECT_FALSE(find_config("no-such"));
  ASSERT_TRUE(find_config("all"));
  for (const Config& c : configs()) {
    ASSERT_TRUE(find_config(c.name));
    EXPECT_EQ(find_config(c.name)->name, c.name);
    Machine m;
    m.core = Dimension::kNpt;
    m.nested = Nesting::kEpt;
    m.memory_mib = 1024;
    m.features = feature::kLa57;
    c.constrain(m);
    Machine again = m;
    c.constrain(again);
    EXPECT_EQ(m, again);
    // all and tdp-smp take either.
    const bool keeps = c.name == "all" || c.name == "tdp-smp";
    EXPECT_EQ(m.core, c.name == "npt" || keeps    ? Dimension::kNpt
                      : c.name.starts_with("ept") ? Dimension::kEpt
                      : c.needs_host              ? Dimension::kBare
                                                  : Dimension::kShadow);
    EXPECT_TRUE(m.core != Dimension::kEpt || m.vendor == Vendor::kIntel);
    EXPECT_TRUE(m.core != Dimension::kNpt || m.vendor == Vendor::kAmd);
    Machine legal = m;
    reconcile(legal);
    EXPECT_EQ(m, legal);
  }
}

TEST(Config, OptionsOfTheCoreAreThoseThatItNames) {
  Machine m;
  m.options = option::kExtraZap;
  find_config("shadow-64")->constrain(m);
  EXPECT_EQ(m.options, option::kExtraZap) << "any";
  const auto some = find_config("shadow-64+no-prefetch+eager-sync");
  ASSERT_TRUE(some);
  EXPECT_EQ(some->name, "shadow-64+no-prefetch+eager-sync");
  some->constrain(m);
  EXPECT_EQ(m.options, option::kNoPrefetch | option::kEagerSync);
  EXPECT_EQ(m.mode, Mode::k4Level);
  for (const char* bad :
       {"shadow-64+", "shadow-64+no-such", "+no-prefetch", "shadow-64++no-unsync"})
    EXPECT_FALSE(find_config(bad)) << bad;
}

TEST(Config, NamesTheModeThatTracesStartIn) {
  const std::pair<const char*, Mode> kModes[] = {{"shadow-32", Mode::k32Bit},
                                                 {"shadow-pae", Mode::kPae},
                                                 {"shadow-64", Mode::k4Level},
                                                 {"shadow-la57", Mode::k5Level}};
  for (const auto& [name, mode] : kModes) {
    Machine m;
    m.mode = Mode::kNone;
    m.host_levels = 5;
    find_config(name)->constrain(m);
    EXPECT_EQ(m.mode, mode) << name;
    EXPECT_EQ(m.host_levels, 5);
  }
  Machine any;
  any.mode = Mode::kNone;
  find_config("shadow-any")->constrain(any);
  EXPECT_EQ(any.mode, Mode::kNone);
}

TEST(Crash, IsClassedByItsLastWords) {
  EXPECT_EQ(class_of_crash("==1==ERROR: AddressSanitizer: heap-use-after-free", "crash-1"),
            DivergenceClass::kSanitizer);
  EXPECT_EQ(class_of_crash("x.cc:3:4: runtime error: signed integer overflow", "crash-1"),
            DivergenceClass::kSanitizer);
  EXPECT_EQ(class_of_crash("==1== ERROR: libFuzzer: deadly signal", "crash-1"),
            DivergenceClass::kTrap);
  EXPECT_EQ(class_of_crash("==1== ERROR: libFuzzer: timeout after 10 seconds", "timeout-1"),
            DivergenceClass::kHang);
  EXPECT_EQ(reason_of_crash("a\n==1==ERROR: AddressSanitizer: x on y\nb"),
            "==1==ERROR: AddressSanitizer: x on y");
  EXPECT_EQ(edges_in_log("#1 NEW cov: 12 ft: 3\n#2 NEW cov: 345 ft: 4\n"), 345u);
  EXPECT_EQ(edges_in_log("nothing"), 0u);
}

using OutputFolder = Folder;

TEST_F(OutputFolder, IsMadeAndChecked) {
  Output out;
  ASSERT_EQ(make_output(at("a/b"), out), "");
  EXPECT_TRUE(fs::is_directory(out.findings()));
  ASSERT_EQ(write_atomically(at("file"), std::string_view("x")), "");
  Output bad;
  EXPECT_NE(make_output(at("file"), bad), "");
}

TEST_F(OutputFolder, SeedsAreBuiltFromTextOrFromNothing) {
  ASSERT_EQ(make_folder(at("seeds/more")), "");
  ASSERT_EQ(
      write_atomically(at("seeds/a.walk"), std::string_view("walk 1\naccess read gva=0x1000\n")),
      "");
  ASSERT_EQ(
      write_atomically(at("seeds/more/b.walk"), std::string_view("walk 1\ninvlpg gva=0x1000\n")),
      "");
  ASSERT_EQ(write_atomically(at("seeds/broken.walk"), std::string_view("no trace")), "");
  unsigned made = 0;
  EXPECT_EQ(build_seeds(at("seeds"), at("corpus"), made), "");
  EXPECT_EQ(made, 2u);
  EXPECT_EQ(files(at("corpus")), 2u);
  EXPECT_EQ(build_seeds("", at("empty"), made), "");
  EXPECT_EQ(made, 1u);
}

using Fuzz = Folder;

FuzzOptions quick(const std::string& out) {
  FuzzOptions o;
  o.seconds = 2;
  o.jobs = 1;
  o.out = out;
  o.unicorn_share = 0;
  return o;
}

TEST_F(Fuzz, BadOptionsAreOneLineAndExit2) {
  FuzzOptions o = quick(at("out"));
  o.config = "no-such";
  testing::internal::CaptureStderr();
  EXPECT_EQ(run_fuzz(o), 2);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  EXPECT_NE(said.find("shadow-64"), std::string::npos);
  EXPECT_FALSE(fs::exists(at("out")));
}

// These need a worker; there is one in builds with TWINWALK_FUZZ.
bool no_worker() { return find_programs().worker.empty(); }

TEST_F(Fuzz, ARunCountsAndReports) {
  if (no_worker()) GTEST_SKIP() << "no fuzz target in this build";
  FuzzOptions options = quick(at("out"));
  options.write_report = [](const RunRecord& run, const Output& output) {
    return write_atomically(output.report(), "execs " + std::to_string(run.total.execs));
  };
  const int code = run_fuzz(options);
  EXPECT_TRUE(code == 0 || code == 1) << code;
  const auto summary = nlohmann::json::parse(text(at("out/summary.json")));
  EXPECT_GT(summary["execs"], 100);
  EXPECT_GT(summary["ops"], summary["execs"]);
  EXPECT_GT(summary["checks"], summary["execs"]);
  EXPECT_GT(summary["edges"], 100);
  EXPECT_GT(summary["mmu_states"], 20);
  EXPECT_EQ(summary["engine"], "libfuzzer");
  EXPECT_EQ(summary["new_divergences"] > 0, code == 1);
  EXPECT_EQ(text(at("out/report.html")),
            "execs " + std::to_string(summary["execs"].get<std::uint64_t>()));
  std::size_t walks = 0;
  for (const auto& f : fs::directory_iterator(at("out/findings")))
    walks += f.path().extension() == ".walk";
  EXPECT_EQ(walks, summary["divergences"]);
}

// Until worker 0 has executed something: how soon that is depends on the build and the machine.
bool worker_runs(const std::string& out) {
  for (unsigned tenths = 0; tenths < 300; ++tenths) {
    StatsFile stats;
    if (stats.open(out + "/workers/0/stats") && stats->execs.load() > 0) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return false;
}

TEST_F(Fuzz, AnInterruptEndsItCleanly) {
  if (no_worker()) GTEST_SKIP() << "no fuzz target in this build";
  for (const int signal : {SIGINT, SIGTERM}) {
    const std::string out = at("out" + std::to_string(signal));
    Child child;
    ASSERT_TRUE(child.call([&] {
      FuzzOptions o = quick(out);
      o.seconds = 0;
      return run_fuzz(o);
    }));
    ASSERT_TRUE(worker_runs(out));
    child.send(signal);
    ASSERT_TRUE(child.wait(40));
    EXPECT_TRUE(child.exit_code() == 0 || child.exit_code() == 1) << child.exit_code();
    EXPECT_GT(nlohmann::json::parse(text(out + "/summary.json"))["execs"], 0);
  }
}

// Killed outright: nothing outlives it, and every finding that is there is whole.
TEST_F(Fuzz, AKillLeavesWholeFindingsAndNoWorkers) {
  if (no_worker()) GTEST_SKIP() << "no fuzz target in this build";
  Child child;
  ASSERT_TRUE(child.call([&] {
    FuzzOptions o = quick(at("out"));
    o.seconds = 0;
    return run_fuzz(o);
  }));
  ASSERT_TRUE(worker_runs(at("out")));
  child.send(SIGKILL);
  ASSERT_TRUE(child.wait(20));
  StatsFile stats;
  ASSERT_TRUE(stats.open(at("out/workers/0/stats")));
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  const std::uint64_t execs = stats->execs.load();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_EQ(stats->execs.load(), execs) << "a worker still runs";
  for (const std::string& path : list_candidates(at("out/candidates"))) {
    const std::string bytes = text(path);
    Trace t;
    EXPECT_TRUE(
        decode({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}, t).whole)
        << path;
  }
}

TEST_F(Fuzz, AFullDiskIsOneLineAndExit2) {
  Child child;
  ASSERT_TRUE(child.call([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{512, 512};  // less than a statistics file
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 9;
    return run_fuzz(quick(at("out")));
  }));
  ASSERT_TRUE(child.wait(40));
  EXPECT_EQ(child.exit_code(), 2);
}

}  // namespace
}  // namespace twinwalk::fuzz
