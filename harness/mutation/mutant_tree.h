#ifndef TWINWALK_HARNESS_MUTATION_MUTANT_TREE_H_
#define TWINWALK_HARNESS_MUTATION_MUTANT_TREE_H_

// A copy of this tree with a build of its own, in which one mutant at a time is put.

#include <string>
#include <vector>

#include "harness/mutation/mutants.h"

namespace twinwalk::mutation {

class MutantTree {
 public:
  // `work`: a folder of its own. What is in it from the last time is used again.
  explicit MutantTree(std::string work) : work_(std::move(work)) {}

  // Copies the sources and configures the build. Returns "" or why not.
  std::string prepare();
  // The mutant is in the tree, and no other; what was there before is put back.
  std::string put(const Mutant& mutant);
  std::string put_nothing();

  enum class Built : char { kYes, kNo, kInterrupted };
  // What the compiler says is in log().
  Built build(const std::vector<std::string>& targets) const;

  std::string program(const std::string& name) const { return build_folder() + "/bin/" + name; }
  std::string build_folder() const { return work_ + "/build"; }
  std::string root() const { return work_ + "/tree"; }
  std::string log() const { return work_ + "/build.log"; }
  const std::string& work() const { return work_; }

 private:
  std::string work_;
  std::string changed_;   // file with a mutant in it, from the root
  std::string original_;  // what it was
};

}  // namespace twinwalk::mutation

#endif  // TWINWALK_HARNESS_MUTATION_MUTANT_TREE_H_
