#ifndef TWINWALK_HARNESS_FUZZING_TRIAGE_H_
#define TWINWALK_HARNESS_FUZZING_TRIAGE_H_

// From candidate to finding: deduplicated, minimised, replayed ten times, asked of Unicorn,
// written. Each candidate in a process of its own, for it may crash or hang whoever runs it.

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "harness/fuzzing/child.h"
#include "harness/fuzzing/config.h"
#include "harness/fuzzing/output.h"
#include "harness/fuzzing/worker.h"
#include "harness/trace/verdict.h"

namespace twinwalk::fuzz {

inline constexpr unsigned kReplays = 10;

struct Candidate {
  std::string path;    // binary trace, file or fuzzing form
  bool crash = false;  // it ended its worker, so only a worker can show it
  DivergenceClass divergence = DivergenceClass::kNone;  // of a crash
  std::string program;                                  // of a crash: the worker
  std::string why;                                      // of a crash: what its log said
};

// A finding on disk: findings/NAME.walk and NAME.json.
struct FindingRecord {
  std::string name;
  bool is_new = true;  // not in the ledger, and not from an earlier run into the same folder
  bool reproduces = true;
  unsigned reproduced = 0;  // of kReplays
  std::uint64_t hits = 1, operations = 0;
  double seconds = 0;
};

struct Examined;

struct TriagePlan {
  Output output;
  const Config* config = nullptr;
  std::string unicorn;          // empty: not asked
  std::set<std::string> known;  // names of findings that the corpus accepts
  double seconds_each = 20;     // most time for minimising one
};

class Triage {
 public:
  explicit Triage(TriagePlan plan);
  ~Triage();
  Triage(const Triage&) = delete;
  Triage& operator=(const Triage&) = delete;

  // Each file once.
  void add(const Candidate& candidate);
  // Collects the child that is done and starts the next one. `now`: seconds since the start. True
  // if a finding was added or changed.
  bool tend(double now);
  bool idle() { return queue_.empty() && !busy_; }
  // From now on nothing is minimised for long.
  void hurry() { plan_.seconds_each = 2; }
  void stop();

  const std::vector<FindingRecord>& findings() const { return findings_; }
  std::uint64_t unicorn_checks() const { return unicorn_checks_; }
  std::size_t waiting() const { return queue_.size() + (busy_ ? 1 : 0); }
  const std::string& error() const { return error_; }  // a finding could not be written

 private:
  struct Answer;  // shared with the child

  void begin(double now);
  void finish(double now);
  void record(const Examined& examined, double now);

  TriagePlan plan_;
  std::deque<Candidate> queue_;
  std::set<std::string> seen_;  // candidates
  std::map<std::string, std::size_t>
      by_name_;  // of a finding, also before it was minimised -> findings_
  std::vector<FindingRecord> findings_;
  Answer* answer_;
  Child child_;
  Candidate current_;
  bool busy_ = false;
  double started_ = 0;
  std::uint64_t unicorn_checks_ = 0;
  std::string error_;
};

// Names of the findings that the traces in `folder` (corpus/known) show.
std::set<std::string> known_findings(const std::string& folder);

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_TRIAGE_H_
