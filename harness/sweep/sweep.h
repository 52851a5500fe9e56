#ifndef TWINWALK_HARNESS_SWEEP_SWEEP_H_
#define TWINWALK_HARNESS_SWEEP_SWEEP_H_

// The exhaustive sweep: every combination of entry bits, control bits and kinds
// of access (sweep_case.h), run on a subject and judged by `spec`, and one case
// of each equivalence class by Unicorn.

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "harness/subject.h"
#include "harness/trace/machine.h"
#include "harness/trace/verdict.h"
#include "oracle/unicorn/client.h"

namespace twinwalk::sweep {

// Where a running sweep is; for a line of progress.
struct SweepProgress {
  std::string block;
  std::uint64_t programs = 0;            // of the block, done
  std::uint64_t cases = 0, diverge = 0;  // so far, all blocks
};

struct SweepOptions {
  unsigned shard = 0,
           shards = 1;       // this run takes every shards-th program, beginning with the shard-th
  std::string only;          // name of the one block to run, in each mode; empty = all
  std::optional<Mode> mode;  // none: every mode
  Nesting nesting = Nesting::kNone;          // the blocks of a guest on EPT or NPT instead
  oracle::UnicornClient* unicorn = nullptr;  // for the classes' representatives; null = none
  std::size_t max_mismatches = 20;           // kept with their trace; all are counted
  const std::atomic<bool>* stop = nullptr;   // ends the sweep early, with what is known so far
  std::function<void(const SweepProgress&)> progress;  // called now and then
};

struct SweepMismatch {
  std::string block;
  std::string what;   // the case on one line: axis=value ...
  std::string trace;  // a minimal .walk that shows it
  bool alone = true;  // false: shows only after earlier cases; `trace` then holds them too
  Verdict verdict;
};

struct SweepBlockCount {
  std::string name, about;     // the name begins with the mode's
  std::uint64_t cases = 0;     // accesses judged
  std::uint64_t programs = 0;  // run on the subject
  std::uint64_t classes = 0;   // distinct equivalence classes met
};

struct SweepResult {
  std::uint64_t cases = 0, agree = 0, diverge = 0, skip = 0, unspecified = 0;
  std::uint64_t steps = 0;  // including register and entry writes
  std::vector<SweepBlockCount> blocks;
  std::array<std::uint64_t, static_cast<std::size_t>(DivergenceClass::kCount)> by_class = {};
  std::array<std::uint64_t, 16> by_outcome = {};  // cases by OutcomeKind seen
  struct Left {
    std::string reason;
    std::uint64_t cases = 0;  // combinations left out for it
  };
  std::vector<Left> left_out;
  std::uint64_t classes = 0;
  std::uint64_t unicorn_checks = 0, unicorn_skipped = 0, unicorn_disagreements = 0,
                unicorn_known = 0;
  bool unicorn_died = false;
  bool stopped = false;
  std::vector<SweepMismatch> mismatches;
  // Nothing diverged and the references agree.
  bool clean() const { return diverge == 0 && unicorn_disagreements == 0; }
};

// Runs the sweep. Deterministic: the same options and subject give the same result.
SweepResult run_sweep(Subject& subject, const SweepOptions& options);

}  // namespace twinwalk::sweep

#endif  // TWINWALK_HARNESS_SWEEP_SWEEP_H_
