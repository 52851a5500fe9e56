#ifndef TWINWALK_HARNESS_FUZZING_CORE_BUILD_H_
#define TWINWALK_HARNESS_FUZZING_CORE_BUILD_H_

// Programs of this tree with another core in them: one with a seeded bug (zoo.h), or that of
// another revision (bisect.h). Everything else is this tree's, so that cores are compared by the
// same judge.

#include <string>
#include <vector>

namespace twinwalk::fuzz {

// $TWINWALK_BUILD_DIR/NAME, or NAME beside this program's build; absolute.
std::string work_folder(const std::string& name);

// Configures a release build with what this program was built with, checks on, fuzz targets among
// it. `options`: further words for cmake. Returns "" or why not: one line that names `log`.
std::string configure(const std::string& source, const std::string& build,
                      const std::vector<std::string>& options, const std::string& log);

class CoreBuild {
 public:
  // `work`: a folder of this build's own. What is in it from the last time is used again.
  explicit CoreBuild(std::string work) : work_(std::move(work)) {}

  // This tree's own core, as a folder that may be changed before it is built. Returns "" or why
  // not.
  std::string copy_own_core(std::string& core) const;
  // Builds the programs with the core in `core`/mmu_core. What is the same as last time is not
  // built again. Returns "" or why not: one line that names `log`, where the compiler's words are.
  std::string build(const std::string& core, const std::vector<std::string>& targets,
                    const std::string& log) const;
  // Path of a program that was built.
  std::string program(const std::string& name) const { return work_ + "/build/bin/" + name; }
  const std::string& work() const { return work_; }

 private:
  std::string work_;
};

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_CORE_BUILD_H_
