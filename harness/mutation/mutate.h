#ifndef TWINWALK_HARNESS_MUTATION_MUTATE_H_
#define TWINWALK_HARNESS_MUTATION_MUTATE_H_

// The verb `mutate`: how many of the small mistakes that one could make in the core or in the
// reference the suite would notice.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "harness/mutation/suite.h"

namespace twinwalk::mutation {

struct MutateOptions {
  Side side = Side::kCore;
  std::size_t sample = 40;      // mutants; 0: all
  std::uint64_t seed = 1;       // of the choice, and of fuzzing
  std::string only;             // what a mutant's id begins with
  double seconds = 20;          // of fuzzing a mutant
  unsigned jobs = 0;            // 0: one a core
  std::optional<double> bound;  // percent that must be killed; default_bound() if not given
  bool list = false;            // print the ids and try nothing
  bool json = false;            // result lines and nothing else on standard output
  std::string out;              // folder; empty: twinwalk-out/N in the current folder
};

// What the suite has reached (README); it may only rise.
double default_bound(Side side);

struct Score {
  unsigned killed = 0, survived = 0, equivalent = 0, invalid = 0;
  void add(Fate fate);
  // Percent of those that are programs of their own; 0 if there is none.
  double percent() const;
};

// {"mutant","file","line","change","was","now","fate","by","how"}, one line.
std::string to_json(const MutantResult& result);
// {"summary":{"side","mutants","killed","survived","equivalent","invalid","score","bound"}}
std::string to_json(const Score& score, Side side, double bound);
// One line for people.
std::string story_of(const MutantResult& result);

// 0: at least the bound. 1: less, or interrupted: what was done is in the folder. 2: bad options,
// the suite is not green without a mutant, or nothing could be tried.
int run_mutate(const MutateOptions& options);

}  // namespace twinwalk::mutation

#endif  // TWINWALK_HARNESS_MUTATION_MUTATE_H_
