#include "harness/fuzzing/core_build.h"

#include <cstdlib>
#include <filesystem>

#include "harness/fuzzing/atomic_file.h"
#include "harness/fuzzing/child.h"
#include "harness/fuzzing/mirror.h"
#include "harness/fuzzing/programs.h"

namespace twinwalk::fuzz {
namespace {

namespace fs = std::filesystem;

constexpr double kBuildSeconds = 1800;

}  // namespace

std::string work_folder(const std::string& name) {
  std::error_code error;
  const char* build = std::getenv("TWINWALK_BUILD_DIR");
  const fs::path folder =
      build ? fs::path(build) : fs::path(own_folder()).parent_path().parent_path();
  return fs::absolute(folder / name, error).string();
}

std::string configure(const std::string& source, const std::string& build,
                      const std::vector<std::string>& options, const std::string& log) {
  Command command;
  command.words = {"cmake",
                   "-S",
                   source,
                   "-B",
                   build,
                   "-G",
                   "Ninja",
                   "-DCMAKE_BUILD_TYPE=Release",
                   "-DCMAKE_CXX_FLAGS_RELEASE=-O2",
                   "-DTWINWALK_FUZZ=ON",
                   "-DTWINWALK_WERROR=OFF",
                   std::string("-DCMAKE_C_COMPILER=") + TWINWALK_C_COMPILER,
                   std::string("-DCMAKE_CXX_COMPILER=") + TWINWALK_CXX_COMPILER,
                   std::string("-DCMAKE_CXX_COMPILER_LAUNCHER=") + TWINWALK_COMPILER_LAUNCHER};
  command.words.insert(command.words.end(), options.begin(), options.end());
  command.log = log;
  return run_command(command, kBuildSeconds) ? "" : "cannot be configured; see " + log;
}

std::string CoreBuild::copy_own_core(std::string& core) const {
  core = work_ + "/core";
  std::error_code error;
  fs::remove_all(core, error);
  return mirror(std::string(TWINWALK_SOURCE_DIR) + "/mmu_core", core + "/mmu_core");
}

std::string CoreBuild::build(const std::string& core, const std::vector<std::string>& targets,
                             const std::string& log) const {
  const std::string source = work_ + "/source";
  std::string why = make_folder(source);
  if (why.empty()) why = mirror(core + "/mmu_core", source + "/mmu_core");
  if (!why.empty()) return why;
  why = configure(TWINWALK_SOURCE_DIR, work_ + "/build",
                  {"-DTWINWALK_TESTS=OFF", "-DTWINWALK_CORE_DIR=" + source}, log);
  if (!why.empty()) return why;
  Command make;
  make.words = {"cmake", "--build", work_ + "/build", "--target"};
  make.words.insert(make.words.end(), targets.begin(), targets.end());
  make.log = log;
  make.append_log = true;
  if (!run_command(make, kBuildSeconds)) return "cannot be built; see " + log;
  return {};
}

}  // namespace twinwalk::fuzz
