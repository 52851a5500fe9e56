#ifndef TWINWALK_HARNESS_MUTATION_SUITE_H_
#define TWINWALK_HARNESS_MUTATION_SUITE_H_

// What a mutant has to get past: the corpus, fuzzing, and the unit tests of its side; cheapest
// first, and no further once one of them has noticed it.

#include <cstdint>
#include <string>

#include "harness/mutation/mutant_tree.h"

namespace twinwalk::mutation {

enum class Fate : char {
  kKilled,
  kSurvived,
  kEquivalent,  // the compiler made the same program of it
  kInvalid,     // it does not compile
};
const char* name_of(Fate fate);

struct MutantResult {
  Mutant mutant;
  Fate fate = Fate::kSurvived;
  std::string by;     // "corpus", "fuzzing" or "unit-tests", if killed
  std::string how;    // divergence class, or name of the test
  std::string error;  // it could not be tried
};

struct SuitePlan {
  Side side = Side::kCore;
  double seconds = 20;  // of fuzzing a mutant
  unsigned jobs = 1;    // fuzzing processes
  std::uint64_t seed = 1;
};

class Suite {
 public:
  Suite(MutantTree& tree, const SuitePlan& plan) : tree_(tree), plan_(plan) {}

  // Builds everything as it is and runs the corpus and the unit tests: they must be green, and how
  // long they take says when a mutant hangs. Returns "" or why not.
  std::string prepare();

  // An interrupt ends it early; what it says then means nothing.
  MutantResult try_mutant(const Mutant& mutant);

 private:
  // "" if nothing was noticed, otherwise what. `seconds`: limit.
  std::string run_corpus(double seconds) const;
  std::string run_unit_tests(double seconds) const;
  std::string fuzz();
  // The bytes of the program, and of Unicorn's process, which has sources of the reference too.
  bool read_programs(std::string& bytes) const;
  std::string test_target() const;
  void hold(MutantResult& result);

  MutantTree& tree_;
  SuitePlan plan_;
  std::string program_;  // read_programs() without a mutant
  double corpus_seconds_ = 0, unit_seconds_ = 0;
};

}  // namespace twinwalk::mutation

#endif  // TWINWALK_HARNESS_MUTATION_SUITE_H_
