#ifndef TWINWALK_HARNESS_FUZZING_ZOO_TRIAL_H_
#define TWINWALK_HARNESS_FUZZING_ZOO_TRIAL_H_

// One hunt: workers with a seeded core fuzz until something is detected that the core without the
// seed does not show, or the time is over.

#include <cstdint>
#include <optional>
#include <string>

#include "harness/trace/verdict.h"

namespace twinwalk::fuzz {

struct TrialPlan {
  std::string worker;  // program
  std::string config;
  std::string folder;  // of this trial alone; what is in it goes
  std::string seeds;   // folder of *.walk to begin with; empty: an empty corpus
  unsigned jobs = 1;
  std::uint64_t seed = 1;  // of the first worker; the others follow
  double seconds = 60;
  bool own_core_is_judge = true;  // false: the machine's own option is what is tried
};

struct Trial {
  DivergenceClass divergence = DivergenceClass::kNone;  // of the first detection
  std::string trace;                                    // that showed it
  std::string error;                                    // it could not be run
  // Seconds since the start, as seen by a look every kLook seconds. Reached, triggered: the canary
  // counted for the first time. A worker that crashed took its canaries with it: what it found was
  // reached and triggered by then, at an unknown time.
  std::optional<double> to_reach, to_trigger, to_detect;
  bool reached = false, triggered = false;
  double seconds = 0;  // that it took
  std::uint64_t execs = 0;
  bool detected() const { return divergence != DivergenceClass::kNone; }
};

inline constexpr double kLook = 0.02;

// An interrupt ends it early.
Trial run_trial(const TrialPlan& plan);

// The class that a candidate's file name says; kNone if it says none.
DivergenceClass class_of_candidate(const std::string& path);

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_ZOO_TRIAL_H_
