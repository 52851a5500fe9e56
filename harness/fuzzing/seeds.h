#ifndef TWINWALK_HARNESS_FUZZING_SEEDS_H_
#define TWINWALK_HARNESS_FUZZING_SEEDS_H_

// Inputs to begin with, made from traces that people wrote.

#include <string>

#include "harness/fuzzing/config.h"

namespace twinwalk::fuzz {

// Fills `folder` with the binary form of every trace in `seeds` (*.walk, in folders too) that does
// not set expectations aside: comments and `=` lines are left out. Only those of machines that
// `config` has, if there is one. An empty or missing `seeds`, or one that has none of these, gives
// a single small trace. Returns "" or why it failed; `made` counts.
std::string build_seeds(const std::string& seeds, const std::string& folder, unsigned& made,
                        const Config* config = nullptr);

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_SEEDS_H_
