#ifndef TWINWALK_HARNESS_FUZZING_WORKER_H_
#define TWINWALK_HARNESS_FUZZING_WORKER_H_

// One fuzzing process under the driver's eyes: started, counted, and started again when it crashes.

#include <cstdint>
#include <string>
#include <vector>

#include "harness/fuzzing/child.h"
#include "harness/fuzzing/fuzz.h"
#include "harness/fuzzing/worker_stats.h"
#include "harness/trace/verdict.h"

namespace twinwalk::fuzz {

struct WorkerPlan {
  unsigned number = 0;
  Engine engine = Engine::kLibFuzzer;
  std::string program;
  bool sanitized = false;
  std::string mutator;  // AFL++: the custom-mutator library
  std::string config;
  std::string corpus;  // libFuzzer: shared; AFL++: where it reads seeds
  std::string candidates;
  std::string folder;        // of its own: log, statistics, crashing inputs
  std::string afl_output;    // AFL++: shared by its instances
  std::string afl_instance;  // its name there
  bool afl_main = false;     // one of them is the main one: it reads from all, the others from it
  double seconds = 0;        // 0: until stopped
  std::uint64_t seed = 1;
};

// An input that ended a worker.
struct Crash {
  DivergenceClass divergence = DivergenceClass::kTrap;  // kTrap, kSanitizer or kHang
  std::string input;                                    // path; empty if it left none
  std::string why;                                      // one line from its log
};

// What a worker's last words say. `log` is the tail of its log.
DivergenceClass class_of_crash(const std::string& log, const std::string& artifact_name);
// The line that says what happened, "" if there is none.
std::string reason_of_crash(const std::string& log);
// The last "cov: N" of libFuzzer's log, 0 if there is none.
std::uint64_t edges_in_log(const std::string& log);

// How its process is started, for the first time or again.
Command command_of(const WorkerPlan& plan, unsigned restarts);

class Worker {
 public:
  // Makes its folder and statistics, and starts it. Returns "" or why not.
  std::string start(WorkerPlan plan);

  // Looks after it; restarts it if it ended before its time. Adds what ended it to `crashes`.
  // False if it ended at once several times in a row: it cannot run; error() says why.
  bool tend(std::vector<Crash>& crashes);
  void stop(double seconds);
  void ask_to_stop();  // SIGTERM, without waiting

  const WorkerPlan& plan() const { return plan_; }
  const WorkerStats& stats() const { return *stats_.get(); }
  WorkerStats& stats() { return *stats_.get(); }
  std::uint64_t edges();  // that it has reached
  unsigned restarts() const { return restarts_; }
  const std::string& error() const { return error_; }

 private:
  void collect(std::vector<Crash>& crashes);
  std::string log() const { return plan_.folder + "/log"; }

  WorkerPlan plan_;
  Child child_;
  StatsFile stats_;
  std::vector<std::string> seen_;  // crashing inputs
  std::uint64_t edges_ = 0, execs_at_start_ = 0;
  unsigned restarts_ = 0, idle_deaths_ = 0;
  std::string error_;
};

// The last `bytes` of a file.
std::string tail_of(const std::string& path, std::size_t bytes);

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_WORKER_H_
