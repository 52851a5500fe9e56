#ifndef TWINWALK_HARNESS_FUZZING_SUMMARY_H_
#define TWINWALK_HARNESS_FUZZING_SUMMARY_H_

// What a run adds up to, as summary.json and as a line for people.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "harness/fuzzing/corpus_exchange.h"
#include "harness/fuzzing/fuzz.h"
#include "harness/fuzzing/output.h"
#include "harness/fuzzing/triage.h"
#include "harness/fuzzing/worker_stats.h"

namespace twinwalk::fuzz {

// The run at one moment; counts are totals since its start.
struct Moment {
  double seconds = 0;
  std::uint64_t execs = 0, ops = 0, checks = 0, unicorn_checks = 0, edges = 0, mmu_states = 0,
                corpus = 0, taken = 0;
  std::uint64_t divergences = 0, new_divergences = 0;
};

// The run's part in a fleet.
struct FleetRecord {
  std::string name;
  Origins origins;
};

struct RunRecord {
  FuzzOptions options;
  // What was fuzzed, with its version, and the words that name it on the command line; empty: the
  // core.
  std::string subject, subject_words;
  Moment total;
  std::vector<Moment> moments;
  std::vector<FindingRecord> findings;
  std::vector<std::uint64_t>
      states;  // kStateCounters: traces of all workers that reached the MMU state
  unsigned workers = 0;
  std::string unicorn_version;
  std::vector<std::string> remarks;
  std::optional<FleetRecord> fleet;
};

std::string name_of(Engine engine);

// {"execs":..,...}: one object, keys in the order of the result schema.
std::string to_json(const RunRecord& run);

// "  12 s  1.2M execs  54k/s  ..." in one line of less than 120 columns, but for a fleet's.
// `previous` gives the present speed.
std::string progress_line(const Moment& now, const Moment& previous, std::size_t waiting);

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_SUMMARY_H_
