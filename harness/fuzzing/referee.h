#ifndef TWINWALK_HARNESS_FUZZING_REFEREE_H_
#define TWINWALK_HARNESS_FUZZING_REFEREE_H_

// The second opinion: a process that has Unicorn check new corpus entries and samples of what the
// workers run, within its share of the time.

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "harness/fuzzing/child.h"
#include "harness/fuzzing/config.h"

namespace twinwalk::fuzz {

struct RefereePlan {
  const Config* config = nullptr;
  std::string unicorn;                    // twinwalk-unicorn
  std::string corpus;                     // folder whose new entries it checks
  std::string candidates;                 // where what diverges goes
  std::vector<std::string> worker_stats;  // files of StatsFile
  double share = 0.2;                     // of the time of `jobs` cores; at most one core in all
  unsigned jobs = 1;
};

// Shared between driver and referee.
struct RefereeCounts {
  std::atomic<std::uint64_t> traces{0}, corpus_entries{0}, unicorn_checks{0}, skipped{0},
      disagreements{0}, deaths{0};
  std::atomic<bool> unavailable{false};
  char version[32] = {};  // of Unicorn, once available
  char why[256] = {};     // if unavailable
};

class Referee {
 public:
  Referee();
  ~Referee();
  Referee(const Referee&) = delete;
  Referee& operator=(const Referee&) = delete;

  void start(RefereePlan plan);
  void tend();  // starts it again if it crashed
  void stop();
  const RefereeCounts& counts() const { return *counts_; }
  RefereeCounts& counts() { return *counts_; }

 private:
  RefereePlan plan_;
  RefereeCounts* counts_;
  Child child_;
  bool wanted_ = false;
  unsigned restarts_ = 0;
};

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_REFEREE_H_
