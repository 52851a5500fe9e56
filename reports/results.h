#ifndef TWINWALK_REPORTS_RESULTS_H_
#define TWINWALK_REPORTS_RESULTS_H_

// Result lines (JSON Lines) as `run`, `conform`, `zoo`, `mutate`, `bench` and `fuzz` print them.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "harness/trace/result_line.h"

namespace twinwalk::reports {

struct ConformLine {
  std::string feature, subject, host, mode, result, why;  // result: pass, known, fail, skip
  std::uint64_t checks = 0;
};
struct StampLine {  // what a column of `conform` ran on
  std::string subject, host, stamp;
};
struct FindingLine {  // a case of `conform` that failed, minimised
  std::string file, cls, subject, host, mode, feature, case_name, got, allowed, rule;
  std::uint64_t reproduced = 0, replays = 0;
};
// One trial of one exhibit. Times that are absent are not known.
struct ZooLine {
  std::string bug, by;
  bool reached = false, triggered = false, detected = false;
  double seconds = 0;  // to the detection, or of the whole trial
  std::uint64_t execs = 0;
  std::optional<double> seconds_to_reach = {}, seconds_to_trigger = {};
  bool control = false;  // neutral: to detect it is the mistake
  std::uint64_t repeat = 0, operations = 0;
  std::string cls = {}, rule = {};
};
// One small mistake, and who noticed it.
struct MutantLine {
  std::string mutant, was, now;  // FILE:LINE:COLUMN:CHANGE; the text that gave way, and to what
  std::string fate;              // killed, survived, equivalent, invalid
  std::string by, how;           // if killed
};
struct MutationScore {
  std::string side;  // core, oracle
  std::uint64_t killed = 0, survived = 0, equivalent = 0, invalid = 0;
  double score = 0, bound = 0;  // percent
};
struct BenchLine {
  std::string row, unit, target;
  double value = 0, limit = 0, ratio = 0;
  std::optional<bool> holds;  // absent: measured only
};
struct FuzzLine {
  std::string engine;
  double seconds = 0, execs_per_second = 0;
  std::uint64_t execs = 0, ops = 0, checks = 0, unicorn_checks = 0, edges = 0, mmu_states = 0,
                divergences = 0, new_divergences = 0;
};

struct Results {
  std::vector<ResultLine> run;
  std::vector<RunSummary> summaries;
  std::vector<ConformLine> conform;
  std::vector<StampLine> stamps;
  std::vector<FindingLine> findings;
  std::vector<ZooLine> zoo;
  std::vector<MutantLine> mutants;
  std::vector<MutationScore> scores;
  std::vector<BenchLine> bench;
  std::vector<FuzzLine> fuzz;
  bool empty() const {
    return run.empty() && summaries.empty() && conform.empty() && stamps.empty() &&
           findings.empty() && zoo.empty() && mutants.empty() && scores.empty() && bench.empty() &&
           fuzz.empty();
  }
};

// Appends the lines of one file. `text` is JSON Lines, or one JSON object (a summary.json). The
// error, if any, is one line that begins with `file:LINE: `; `out` then holds what came before it.
std::optional<std::string> read_results(std::string_view text, std::string_view file, Results& out);

}  // namespace twinwalk::reports

#endif  // TWINWALK_REPORTS_RESULTS_H_
