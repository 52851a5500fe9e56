#ifndef TWINWALK_HARNESS_FUZZING_ZOO_RESULT_H_
#define TWINWALK_HARNESS_FUZZING_ZOO_RESULT_H_

// What one trial of one exhibit of the zoo came to, and its result line.

#include <cstddef>
#include <string>

#include "harness/fuzzing/zoo_trial.h"
#include "harness/trace/verdict.h"

namespace twinwalk::fuzz {

// A bug counts as found only if less operations than this show it.
inline constexpr std::size_t kMostOperations = 15;

struct ZooResult {
  std::string bug;
  bool control = false;  // a change that is neutral: to detect it is the mistake
  unsigned repeat = 0;   // number of the trial, from 0
  Trial trial;
  std::size_t operations = 0;  // of the smallest trace
  std::string rule;            // broken, by `explain` of that trace
  std::string error;           // it could not be built, run or explained
};

// What kind of check a divergence of that class comes from: "translation", "audit", "sanitizer",
// "liveness", "" of none.
std::string detector_of(DivergenceClass divergence);
// As it should be. A bug: detected, small and explained. A control: not detected, but triggered.
bool is_good(const ZooResult& result);
// One sentence.
std::string story_of(const ZooResult& result);
// {"bug","control","repeat","reached","triggered","detected","by","class","seconds",
// "seconds_to_reach","seconds_to_trigger","execs","operations","rule"}, one line. `seconds`: to the
// detection, or of the whole trial.
std::string to_json(const ZooResult& result);

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_ZOO_RESULT_H_
