#include "harness/mutation/suite.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <sstream>

#include "harness/fuzzing/atomic_file.h"
#include "harness/fuzzing/child.h"
#include "harness/fuzzing/interrupts.h"
#include "harness/fuzzing/zoo_trial.h"
#include "harness/trace/verdict.h"

namespace twinwalk::mutation {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMaxProgram = 1u << 30, kMaxLog = 64u << 20;
// A mutant hangs if it takes this much longer than the tree as it is.
constexpr double kHangFactor = 5, kHangLeast = 20;
constexpr double kFirstTime = 900;

std::string word(DivergenceClass divergence) { return std::string(twinwalk::name_of(divergence)); }

double limit(double usual) { return usual * kHangFactor + kHangLeast; }
double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

struct Ending {
  std::string noticed;  // it did not end by itself
  int code = 0;         // if it did
};

Ending run_to_end(const fuzz::Command& command, double seconds) {
  fuzz::Child child;
  if (!child.start(command)) return {"cannot be run"};
  if (!child.wait(seconds)) {
    child.stop(1);
    return {word(DivergenceClass::kHang)};
  }
  if (child.signal() != 0) return {word(DivergenceClass::kTrap)};
  return {"", child.exit_code()};
}

std::string class_of_line(const std::string& line) {
  const nlohmann::json j = nlohmann::json::parse(line, nullptr, false);
  if (!j.is_object() || j.value("verdict", "") != "diverge") return {};
  return j.value("class", "");
}

// Name of the first test that ctest's words call failed.
std::string failed_test(const std::string& text) {
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    const std::size_t name = line.find(": "), end = line.find(" .", name);
    if (line.find("***") != line.npos && name != line.npos && end != line.npos)
      return line.substr(name + 2, end - name - 2);
  }
  return {};
}

}  // namespace

const char* name_of(Fate fate) {
  switch (fate) {
    case Fate::kKilled:
      return "killed";
    case Fate::kSurvived:
      return "survived";
    case Fate::kEquivalent:
      return "equivalent";
    case Fate::kInvalid:
      return "invalid";
  }
  return "";
}

std::string Suite::test_target() const {
  return plan_.side == Side::kCore ? "mmu_core_tests" : "oracle_tests";
}

std::string Suite::prepare() {
  switch (tree_.build({"twinwalk_program", "shadow_fuzzer", test_target()})) {
    case MutantTree::Built::kYes:
      break;
    case MutantTree::Built::kNo:
      return "the tree cannot be built; see " + tree_.log();
    case MutantTree::Built::kInterrupted:
      return "interrupted";
  }
  if (!read_programs(program_)) return "cannot read " + tree_.program("twinwalk");
  Clock::time_point begin = Clock::now();
  std::string noticed = run_corpus(kFirstTime);
  corpus_seconds_ = since(begin);
  if (!noticed.empty()) return "the corpus is not green without a mutant: " + noticed;
  begin = Clock::now();
  noticed = run_unit_tests(kFirstTime);
  unit_seconds_ = since(begin);
  return noticed.empty() ? "" : "the unit tests are not green without a mutant: " + noticed;
}

MutantResult Suite::try_mutant(const Mutant& mutant) {
  MutantResult r;
  r.mutant = mutant;
  r.error = tree_.put(mutant);
  if (r.error.empty()) hold(r);
  return r;
}

void Suite::hold(MutantResult& r) {
  if (tree_.build({"twinwalk_program"}) != MutantTree::Built::kYes) {
    r.fate = Fate::kInvalid;
    return;
  }
  std::string program;
  if (read_programs(program) && program == program_) {
    r.fate = Fate::kEquivalent;
    return;
  }
  const auto killed = [&](const char* by, std::string how) {
    if (how.empty()) return false;
    r.fate = Fate::kKilled;
    r.by = by;
    r.how = std::move(how);
    return true;
  };
  if (killed("corpus", run_corpus(limit(corpus_seconds_))) || fuzz::interrupted()) return;
  // That the program compiles, but not the rest, is what a test of the tree's own text would see.
  if (tree_.build({"shadow_fuzzer", test_target()}) != MutantTree::Built::kYes) {
    r.fate = Fate::kInvalid;
    return;
  }
  if (killed("fuzzing", fuzz()) || fuzz::interrupted()) return;
  killed("unit-tests", run_unit_tests(limit(unit_seconds_)));
}

bool Suite::read_programs(std::string& bytes) const {
  bytes.clear();
  for (const char* name : {"twinwalk", "twinwalk-unicorn"}) {
    std::string one;
    if (!fuzz::read_file(tree_.program(name), kMaxProgram, one)) return false;
    bytes += one;
  }
  return true;
}

std::string Suite::run_corpus(double seconds) const {
  fuzz::Command run;
  run.words = {tree_.program("twinwalk"), "run", "--json"};
  // What the reference is held against: Unicorn. The core's own mistakes the reference sees alone.
  if (plan_.side == Side::kCore) run.words.insert(run.words.end(), {"--reference", "spec"});
  run.words.emplace_back(TWINWALK_SOURCE_DIR "/corpus");
  run.log = tree_.work() + "/corpus.log";
  const Ending ending = run_to_end(run, seconds);
  if (!ending.noticed.empty() || ending.code == 0) return ending.noticed;
  std::string text;
  fuzz::read_file(run.log, kMaxLog, text);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::string cls = class_of_line(line);
    if (!cls.empty()) return cls;
  }
  return "exit code " + std::to_string(ending.code);
}

std::string Suite::fuzz() {
  fuzz::TrialPlan plan;
  plan.worker = tree_.program("shadow_fuzzer");
  plan.config = "all";
  plan.folder = tree_.work() + "/fuzzing";
  plan.seeds = TWINWALK_SOURCE_DIR "/corpus/seed";
  plan.jobs = plan_.jobs;
  plan.seed = plan_.seed;
  plan.seconds = plan_.seconds;
  // Whoever looks again must be without the mutant, and that is the reference where it is there.
  plan.own_core_is_judge = plan_.side == Side::kCore;
  const fuzz::Trial trial = fuzz::run_trial(plan);
  return trial.detected() ? word(trial.divergence) : trial.error;
}

std::string Suite::run_unit_tests(double seconds) const {
  fuzz::Command run;
  run.words = {"ctest",
               "--test-dir",
               tree_.build_folder(),
               "-R",
               plan_.side == Side::kCore ? "^mmu_core_.*_test$" : "^(oracle_.*_test|zoo_.*)$",
               "-j",
               std::to_string(plan_.jobs),
               "--stop-on-failure",
               "--no-tests=error"};
  run.log = tree_.work() + "/unit-tests.log";
  const Ending ending = run_to_end(run, seconds);
  if (!ending.noticed.empty() || ending.code == 0) return ending.noticed;
  std::string text;
  fuzz::read_file(run.log, kMaxLog, text);
  const std::string name = failed_test(text);
  return name.empty() ? "ctest's exit code " + std::to_string(ending.code) : name;
}

}  // namespace twinwalk::mutation
