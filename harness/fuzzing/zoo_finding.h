#ifndef TWINWALK_HARNESS_FUZZING_ZOO_FINDING_H_
#define TWINWALK_HARNESS_FUZZING_ZOO_FINDING_H_

// What becomes of a detection in a seeded core: the same words that a user would say, `minimise`
// and `explain`, by the program that has the bug built in.

#include <cstddef>
#include <string>

#include "harness/fuzzing/config.h"

namespace twinwalk::fuzz {

struct ZooFinding {
  std::size_t operations = 0;  // of the smallest trace
  std::string rule;            // that `explain` names as broken
  std::string error;           // no smallest trace, or no rule
};

// `program`: the seeded twinwalk. `trace`: as a worker with that configuration read or wrote it.
// Writes STEM.walk, the smallest trace, and STEM.txt, its explanation.
ZooFinding look_into(const std::string& program, const Config& config, const std::string& trace,
                     const std::string& stem);

// The rule of the first divergence in what `explain` says; "" if it says none.
std::string rule_in_explanation(const std::string& text);

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_ZOO_FINDING_H_
