#include "harness/fuzzing/programs.h"

#include <cstdlib>
#include <filesystem>
#include <initializer_list>
#include <vector>

namespace twinwalk::fuzz {
namespace {

namespace fs = std::filesystem;

std::string existing(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error) ? path.string() : std::string();
}

std::string first(const std::vector<fs::path>& folders, const char* name) {
  for (const fs::path& folder : folders) {
    std::string found = existing(folder / name);
    if (!found.empty()) return found;
  }
  return {};
}

// bin/ of the presets, in builds beside the one that this program is of.
std::vector<fs::path> bins(const fs::path& own, std::initializer_list<const char*> presets) {
  std::vector<fs::path> out;
  const char* build = std::getenv("TWINWALK_BUILD_DIR");
  for (const char* preset : presets) {
    if (build) out.push_back(fs::path(build) / preset / "bin");
    out.push_back(own.parent_path().parent_path() / preset / "bin");
  }
  return out;
}

}  // namespace

std::string own_folder() {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  return error ? std::string(".") : self.parent_path().string();
}

std::string missing_target(const Programs& programs, Engine engine) {
  if (engine == Engine::kAfl) {
    if (!programs.afl_worker.empty() && !programs.afl_mutator.empty()) return {};
    return "no AFL++ target here; build it: cmake --preset afl && cmake --build --preset afl";
  }
  if (!programs.worker.empty()) return {};
  return "no fuzz target here; build it: cmake --preset fuzz && cmake --build --preset fuzz";
}

Programs find_programs() {
  const fs::path own = own_folder();
  std::vector<fs::path> plain = bins(own, {"release", "fuzz"});
  plain.insert(plain.begin(), own);
  std::vector<fs::path> afl = bins(own, {"afl"});
  afl.insert(afl.begin(), own);
  Programs p;
  p.worker = first(plain, "shadow_fuzzer");
  p.sanitized = first(bins(own, {"asan"}), "shadow_fuzzer");
  p.afl_worker = first(afl, "shadow_fuzzer_afl");
  p.afl_mutator = first(afl, "twinwalk_mutator_afl.so");
  p.unicorn = first(plain, "twinwalk-unicorn");
  p.corpus = existing(fs::path(TWINWALK_SOURCE_DIR) / "corpus");
  if (p.corpus.empty()) p.corpus = existing(own.parent_path() / "share/twinwalk/corpus");
  return p;
}

}  // namespace twinwalk::fuzz
