#ifndef TWINWALK_HARNESS_FUZZING_PROGRAMS_H_
#define TWINWALK_HARNESS_FUZZING_PROGRAMS_H_

// Where the programs are that this one starts, and the repository's corpus.

#include <string>

#include "harness/fuzzing/fuzz.h"

namespace twinwalk::fuzz {

// Paths; empty where there is none.
struct Programs {
  std::string worker;       // shadow_fuzzer
  std::string sanitized;    // the same with ASan and UBSan
  std::string afl_worker;   // shadow_fuzzer_afl
  std::string afl_mutator;  // twinwalk_mutator_afl.so
  std::string unicorn;      // twinwalk-unicorn
  std::string corpus;       // folder with seed/ and known/
};

// Looks beside this program, then in the builds beside its own (build/PRESET/bin, or
// $TWINWALK_BUILD_DIR/PRESET/bin).
Programs find_programs();

// "", or which fuzz target of the engine is missing and how to build it.
std::string missing_target(const Programs& programs, Engine engine);

// The folder of the program that is running.
std::string own_folder();

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_PROGRAMS_H_
