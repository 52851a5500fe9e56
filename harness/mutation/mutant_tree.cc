#include "harness/mutation/mutant_tree.h"

#include <cstddef>
#include <string_view>
#include <utility>

#include "harness/fuzzing/atomic_file.h"
#include "harness/fuzzing/child.h"
#include "harness/fuzzing/core_build.h"
#include "harness/fuzzing/interrupts.h"
#include "harness/fuzzing/mirror.h"

namespace twinwalk::mutation {
namespace {

constexpr std::size_t kMaxSource = 16 << 20;
constexpr double kBuildSeconds = 1800;
// What a build reads. `corpus` as well: it has tests of its own.
constexpr const char* kFolders[] = {"mmu_core", "oracle",     "harness", "fuzzers",
                                    "corpus",   "kvm_runner", "reports"};

}  // namespace

std::string MutantTree::prepare() {
  const std::string from = TWINWALK_SOURCE_DIR;
  std::string why = fuzz::make_folder(root());
  for (const char* folder : kFolders) {
    if (why.empty()) why = fuzz::mirror(from + '/' + folder, root() + '/' + folder);
  }
  if (why.empty()) why = fuzz::mirror_file(from + "/CMakeLists.txt", root() + "/CMakeLists.txt");
  if (!why.empty()) return why;
  return fuzz::configure(root(), build_folder(),
                         {"-DTWINWALK_TESTS=ON", "-DTWINWALK_TEST_FLAGS=-O0",
                          std::string("-DTWINWALK_UNICORN_ROOT=") + TWINWALK_UNICORN_ROOT},
                         log());
}

std::string MutantTree::put(const Mutant& mutant) {
  std::string why = put_nothing();
  if (!why.empty()) return why;
  // Of the copy: whoever works on the tree meanwhile changes nothing here.
  const std::string path = root() + '/' + mutant.file;
  if (!fuzz::read_file(path, kMaxSource, original_)) return "cannot read " + path;
  if (original_.substr(mutant.begin, mutant.end - mutant.begin) != mutant.was)
    return mutant.file + " has changed since the mutants were listed";
  changed_ = mutant.file;
  return fuzz::write_atomically(path, with_mutant(original_, mutant));
}

std::string MutantTree::put_nothing() {
  if (changed_.empty()) return {};
  const std::string file = std::exchange(changed_, {});
  return fuzz::write_atomically(root() + '/' + file, std::string_view(original_));
}

MutantTree::Built MutantTree::build(const std::vector<std::string>& targets) const {
  fuzz::Command make;
  make.words = {"cmake", "--build", build_folder(), "--target"};
  make.words.insert(make.words.end(), targets.begin(), targets.end());
  make.log = log();
  fuzz::Child child;
  const bool started = child.start(make);
  for (double waited = 0; started && waited < kBuildSeconds; waited += 1) {
    if (child.wait(1)) return child.exit_code() == 0 ? Built::kYes : Built::kNo;
    if (fuzz::interrupted()) {
      child.stop(2);
      return Built::kInterrupted;
    }
  }
  return Built::kNo;
}

}  // namespace twinwalk::mutation
