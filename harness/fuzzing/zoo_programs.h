#ifndef TWINWALK_HARNESS_FUZZING_ZOO_PROGRAMS_H_
#define TWINWALK_HARNESS_FUZZING_ZOO_PROGRAMS_H_

// Programs of this tree with a patch of the zoo in their core, kept by what they were made of, so
// that a whole zoo is built once and not again until some source changes.

#include <set>
#include <string>

#include "harness/fuzzing/core_build.h"

namespace twinwalk::fuzz {

class ZooPrograms {
 public:
  // `work`: a folder of its own. Programs lie in `work`/programs/KEY, where KEY is a hash of every
  // source, the patch and the compiler.
  explicit ZooPrograms(std::string work);

  // `folder` then has `shadow_fuzzer` and `twinwalk`. `patch`: its path; empty: the core as it is.
  // Returns "" or why not: one line that names `log`.
  std::string make(const std::string& patch, const std::string& log, std::string& folder);
  // Removes what none of the calls of make() gave.
  void forget_others() const;
  const std::string& work() const { return build_.work(); }

 private:
  std::string key_of(const std::string& patch, const std::string& log, std::string& key);
  std::string build(const std::string& patch, const std::string& log, const std::string& folder);

  CoreBuild build_;
  std::string sums_;  // of all sources of this tree
  std::set<std::string> used_;
};

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_ZOO_PROGRAMS_H_
