#ifndef TWINWALK_REPORTS_FUZZ_REPORT_H_
#define TWINWALK_REPORTS_FUZZ_REPORT_H_

// Everything that the report of a fuzz run shows. Filled by the `fuzz` verb; plain data.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace twinwalk::reports {

// The run at one moment; counts are totals since its start.
struct Sample {
  double seconds = 0;
  std::uint64_t execs = 0;
  std::uint64_t edges = 0;
};

// MMU states reached: how often the core did `operations[o]` at `levels[l]` in a page of
// `roles[r]`.
struct StateMap {
  std::string title;
  std::vector<std::string> roles, levels, operations;
  std::vector<std::uint64_t>
      counts;  // [(r * levels.size() + l) * operations.size() + o]; may be shorter: then 0

  std::uint64_t at(std::size_t role, std::size_t level, std::size_t operation) const {
    const std::size_t i = (role * levels.size() + level) * operations.size() + operation;
    return i < counts.size() ? counts[i] : 0;
  }
};

// In two dimensions: the walk of a guest-physical address, one line of text an entry.
struct NestedLines {
  std::string title;               // "gpa 0x101000 is hpa 0x5000"; empty: there is none
  std::vector<std::string> lines;  // "EPT4 0x141000|r|w|x +a"
};

// One table entry that a walk read.
struct WalkLevel {
  unsigned level = 0;           // 5..1, 1 is the leaf table
  std::uint64_t table_gpa = 0;  // the page that holds the entry
  unsigned index = 0;           // of the entry in it
  std::uint64_t entry = 0;
  std::string note;         // "not present", "reserved bit 45", "value before step 7"; may be empty
  NestedLines nested = {};  // how the processor got at the entry
};

struct Walk {
  std::string title;              // "core", "spec", "unicorn"
  std::string outcome;            // as to_text(Outcome) says it
  std::vector<WalkLevel> levels;  // from the root down
  NestedLines last = {};          // the walk that comes after: of the page, or the one that failed
};

struct Finding {
  std::string name;  // stem of its files: class and hash
  std::string cls, field, got, allowed;
  std::string rule, rule_says, citation;  // of the rule that it breaks
  std::string subject, profile;
  std::string command;         // that shows it again, as typed; may be empty
  std::string trace_text;      // minimised, canonical
  std::size_t trace_line = 0;  // of the operation that diverges, from 1; 0: not known
  std::vector<Walk> walks;     // of the access that diverges, side by side; may be empty
  unsigned replays = 0, reproduced = 0;
  std::uint64_t hits = 1;  // times that this finding was met
  double seconds = 0;      // since the start, when first met
  bool is_new = true;      // false: in the ledger, or a regression that is known
};

struct KnownDeviation {
  std::string id, subject, says;
  std::uint64_t hits = 0;
};

struct FuzzReport {
  std::string title;    // "shadow-64"; the configuration's name
  std::string engine;   // "libfuzzer", "afl"
  std::string subject;  // with its version
  std::string unicorn_version;
  std::string command;  // as typed
  std::string started;  // date and time, or empty
  double seconds = 0;
  unsigned workers = 1;
  std::uint64_t execs = 0, ops = 0, checks = 0, unicorn_checks = 0;
  std::uint64_t edges = 0, mmu_states = 0;
  std::uint64_t divergences = 0, new_divergences = 0;
  std::vector<Sample> samples;
  std::vector<StateMap> states;
  std::vector<Finding> findings;
  std::vector<KnownDeviation> known;
  std::vector<std::string>
      remarks;  // what the reader has to know: an engine that died, a check that was off
};

}  // namespace twinwalk::reports

#endif  // TWINWALK_REPORTS_FUZZ_REPORT_H_
