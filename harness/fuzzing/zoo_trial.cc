#include "harness/fuzzing/zoo_trial.h"

#include <chrono>
#include <filesystem>
#include <list>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "harness/checker.h"
#include "harness/fuzzing/atomic_file.h"
#include "harness/fuzzing/candidate_store.h"
#include "harness/fuzzing/child.h"
#include "harness/fuzzing/interrupts.h"
#include "harness/fuzzing/seeds.h"
#include "harness/fuzzing/worker.h"
#include "harness/own_subject.h"
#include "harness/trace/binary.h"

namespace twinwalk::fuzz {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kMaxInput = 16 << 20;
constexpr double kJudgeSeconds = 10;

// Whether this program's own core, which has no seeded bug, diverges on the candidate as well: then
// the bug is not what was detected. In a process of its own, for the candidate may do anything.
bool diverges_without_bug(const std::string& path) {
  std::string bytes;
  if (!read_file(path, kMaxInput, bytes)) return true;
  Child child;
  const bool started = child.call([&] {
    Trace trace;
    decode({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}, trace);
    const std::unique_ptr<Subject> subject = make_own_subject();
    return Checker(*subject).check(trace).divergence == DivergenceClass::kNone ? 0 : 1;
  });
  return !started || !child.wait(kJudgeSeconds) || child.exit_code() != 0;
}

class Hunt {
 public:
  explicit Hunt(const TrialPlan& plan) : plan_(plan) {}

  Trial run() {
    trial_.error = start();
    begin_ = Clock::now();
    while (trial_.error.empty() && !trial_.detected() && !interrupted() && now() < plan_.seconds) {
      std::this_thread::sleep_for(std::chrono::duration<double>(kLook));
      look_at_canaries();
      trial_.error = look();
    }
    trial_.seconds = now();
    look_at_canaries();  // those of the last moment
    if (trial_.detected()) {
      trial_.to_detect = trial_.seconds;
      trial_.reached = trial_.reached || crashed_;
      trial_.triggered = trial_.triggered || crashed_;
    }
    for (Worker& w : workers_) {
      trial_.execs += w.stats().execs;
      w.stop(1);
    }
    return trial_;
  }

 private:
  double now() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }
  std::string candidates() const { return plan_.folder + "/candidates"; }

  std::string start() {
    std::error_code error;
    fs::remove_all(plan_.folder, error);
    for (const std::string& folder : {plan_.folder + "/corpus", candidates()}) {
      std::string why = make_folder(folder);
      if (!why.empty()) return why;
    }
    if (!plan_.seeds.empty()) {
      unsigned made = 0;
      std::string why = build_seeds(plan_.seeds, plan_.folder + "/corpus", made);
      if (!why.empty()) return why;
    }
    for (unsigned n = 0; n < plan_.jobs; ++n) {
      WorkerPlan worker;
      worker.number = n;
      worker.program = plan_.worker;
      worker.config = plan_.config;
      worker.corpus = plan_.folder + "/corpus";
      worker.candidates = candidates();
      worker.folder = plan_.folder + "/" + std::to_string(n);
      worker.seed = plan_.seed + n;
      workers_.emplace_back();
      std::string why = workers_.back().start(worker);
      if (!why.empty()) return why;
    }
    return {};
  }

  void look_at_canaries() {
    for (Worker& w : workers_) {
      if (!trial_.reached && w.stats().canary_reached)
        trial_.reached = true, trial_.to_reach = now();
      if (!trial_.triggered && w.stats().canary_triggered)
        trial_.triggered = true, trial_.to_trigger = now();
    }
  }

  std::string look() {
    std::vector<Crash> crashes;
    for (Worker& w : workers_) {
      if (!w.tend(crashes)) return w.error();
    }
    for (const Crash& c : crashes) {
      if (plan_.own_core_is_judge && diverges_without_bug(c.input)) continue;
      crashed_ = true;
      return detect(c.divergence, c.input);
    }
    for (const std::string& path : list_candidates(candidates())) {
      if (!looked_at_.insert(path).second) continue;
      if (plan_.own_core_is_judge && diverges_without_bug(path)) continue;
      return detect(class_of_candidate(path), path);
    }
    return {};
  }

  std::string detect(DivergenceClass divergence, const std::string& trace) {
    trial_.divergence = divergence;
    trial_.trace = trace;
    return {};
  }

  const TrialPlan& plan_;
  Trial trial_;
  std::list<Worker> workers_;
  std::set<std::string> looked_at_;  // candidates
  Clock::time_point begin_ = Clock::now();
  bool crashed_ = false;  // a worker, and that was the detection
};

}  // namespace

Trial run_trial(const TrialPlan& plan) { return Hunt(plan).run(); }

DivergenceClass class_of_candidate(const std::string& path) {
  const std::string name = fs::path(path).filename().string();
  for (unsigned c = 1; c < static_cast<unsigned>(DivergenceClass::kCount); ++c) {
    const auto cls = static_cast<DivergenceClass>(c);
    const std::string prefix = std::string(name_of(cls)) + '-';
    // "wrong-frame-" must not be taken for a class whose name continues: what follows is the hash.
    if (name.starts_with(prefix) && name.size() == prefix.size() + 8 + kCandidateSuffix.size())
      return cls;
  }
  return DivergenceClass::kNone;
}

}  // namespace twinwalk::fuzz
