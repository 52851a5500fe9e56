#ifndef TWINWALK_HARNESS_FUZZING_ZOO_H_
#define TWINWALK_HARNESS_FUZZING_ZOO_H_

// The verb `zoo`: how well the harness finds bugs that are known to be there. Each
// corpus/zoo/ID.patch is applied to a copy of the core, the fuzz target is built with it, and
// fuzzes from an empty corpus until the first detection. Then the seeded program itself minimises
// and explains what was found: a bug counts as found only if less than kMostOperations operations
// show it and a rule says what is broken.
//
// Canaries. A patch may define, in any source file that it changes,
//     extern "C" { unsigned mmu_canary_reached = 0, mmu_canary_triggered = 0; }
// and count them up where the faulty line runs and where its condition is true. The target looks
// for these symbols weakly and exports them; the core itself has none of it.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "harness/trace/verdict.h"

namespace twinwalk::fuzz {

inline constexpr std::size_t kMostOperations = 15;

struct ZooOptions {
  double seconds = 60;  // of fuzzing a bug, the build not counted
  unsigned jobs = 0;    // 0: one a core
  std::string only;     // an ID; empty: all
  bool json = false;    // result lines and nothing else on standard output
  std::string zoo;      // folder of patches; empty: the repository's
  std::string build;    // build folder; empty: build/zoo beside this program's build
};

struct ZooResult {
  std::string bug, by;  // by: "translation", "audit", "sanitizer", "liveness", "" if not detected
  std::string cls;      // of the first divergence
  std::string trace;    // that showed it
  std::string error;    // it could not be built or run
  std::string rule;     // broken, by `explain` of the smallest trace
  std::size_t operations = 0;  // of that trace
  bool reached = false, triggered = false, detected = false;
  double seconds = 0;  // to the detection
  std::uint64_t execs = 0;
};

// What kind of check a divergence of that class comes from.
std::string detector_of(DivergenceClass divergence);
// The class that a candidate's file name says; kNone if it says none.
DivergenceClass class_of_candidate(const std::string& path);
// Detected, small and explained.
bool found(const ZooResult& result);
// {"bug","reached","triggered","detected","by","class","seconds","execs","operations","rule"}, one
// line.
std::string to_json(const ZooResult& result);

// IDs of the patches in the folder, sorted.
std::vector<std::string> list_bugs(const std::string& folder);

// 0: all found. 1: some were not. 2: bad options, or a bug could not be built.
int run_zoo(const ZooOptions& options);

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_ZOO_H_
