#ifndef TWINWALK_FUZZERS_SESSION_H_
#define TWINWALK_FUZZERS_SESSION_H_

// One fuzzing process: bytes to verdict, over and over, and what it tells the driver.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "harness/checker.h"
#include "harness/fuzzing/candidate_store.h"
#include "harness/fuzzing/config.h"
#include "harness/fuzzing/worker_stats.h"
#include "harness/trace/op.h"

namespace twinwalk::fuzz {

// What the driver says to a worker, in the environment. All may be absent.
inline constexpr const char* kConfigVariable = "TWINWALK_FUZZ_CONFIG";  // name; default "all"
inline constexpr const char* kCandidatesVariable =
    "TWINWALK_FUZZ_CANDIDATES";  // folder that exists
inline constexpr const char* kStatsVariable =
    "TWINWALK_FUZZ_STATS";  // file made by StatsFile::create

// The configuration that the environment names. Ends the process with one line and exit code 2 if
// there is none.
const Config& config_from_environment();

class Session {
 public:
  Session();
  ~Session();

  // Decodes, runs, judges, counts, and keeps what diverged. Returns 0, or -1 for what is not worth
  // keeping in the corpus: an empty trace, or one that diverged (it is kept elsewhere).
  int run(const std::uint8_t* data, std::size_t size);

 private:
  void count(const CheckResult& result);
  void diverged(const CheckResult& result);

  const Config& config_;
  CandidateStore store_;
  StatsFile file_;
  WorkerStats own_;  // counts when no file is given
  WorkerStats* stats_;
  std::unique_ptr<Subject> subject_;
  std::unique_ptr<Checker> checker_;
  Trace trace_;
  std::uint64_t stale_ = 0;
};

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_FUZZERS_SESSION_H_
