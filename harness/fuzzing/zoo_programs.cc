#include "harness/fuzzing/zoo_programs.h"

#include <algorithm>
#include <filesystem>
#include <utility>
#include <vector>

#include "harness/fuzzing/atomic_file.h"
#include "harness/fuzzing/child.h"

namespace twinwalk::fuzz {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxSums = 16 << 20;
constexpr double kPatchSeconds = 60, kSumSeconds = 60;
constexpr const char* kNames[] = {"shadow_fuzzer", "twinwalk"};
// What the programs are made of.
constexpr const char* kFolders[] = {"mmu_core", "oracle",     "harness",
                                    "fuzzers",  "kvm_runner", "reports"};

bool is_source(const fs::path& path) {
  static constexpr const char* kEndings[] = {".cc", ".h", ".S", ".txt", ".cmake"};
  return std::find(std::begin(kEndings), std::end(kEndings), path.extension()) !=
         std::end(kEndings);
}

// Regular files below the folder, in an order that depends on their names alone.
std::vector<std::string> sources_in(const fs::path& folder) {
  std::vector<std::string> out;
  std::error_code error;
  for (const auto& entry : fs::recursive_directory_iterator(folder, error)) {
    if (entry.is_regular_file(error) && is_source(entry.path()))
      out.push_back(entry.path().string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

// SHA-256 of each file, a line each: "SUM  PATH". Paths are those below `root`.
std::string sums_of(const std::string& root, const std::vector<std::string>& files,
                    const std::string& log, std::string& out) {
  Command command;
  command.words = {"cmake", "-E", "sha256sum"};
  for (const std::string& file : files)
    command.words.push_back(fs::path(file).lexically_relative(root).string());
  command.folder = root;
  command.log = log;
  std::string text;
  if (!run_command(command, kSumSeconds) || !read_file(log, kMaxSums, text))
    return "cannot read the sources; see " + log;
  out += text;
  return {};
}

}  // namespace

ZooPrograms::ZooPrograms(std::string work) : build_(std::move(work)) {}

std::string ZooPrograms::key_of(const std::string& patch, const std::string& log,
                                std::string& key) {
  std::string why;
  if (sums_.empty()) {
    std::vector<std::string> files = {TWINWALK_SOURCE_DIR "/CMakeLists.txt"};
    for (const char* folder : kFolders) {
      const std::vector<std::string> more = sources_in(fs::path(TWINWALK_SOURCE_DIR) / folder);
      files.insert(files.end(), more.begin(), more.end());
    }
    std::error_code error;
    const fs::path compiler = fs::canonical(TWINWALK_CXX_COMPILER, error);
    std::string sums =
        compiler.string() + ' ' + std::to_string(fs::file_size(compiler, error)) + '\n';
    why = sums_of(TWINWALK_SOURCE_DIR, files, log, sums);
    if (why.empty()) sums_ = sums;
  }
  std::string all = sums_, sum;
  if (why.empty() && !patch.empty()) {
    const fs::path path = fs::absolute(patch);
    why = sums_of(path.parent_path().string(), {path.string()}, log, all);
  }
  const std::string list = build_.work() + "/sources";
  if (why.empty()) why = write_atomically(list, std::string_view(all));
  if (why.empty()) why = sums_of(build_.work(), {list}, log, sum);
  if (why.empty()) key = sum.substr(0, sum.find(' '));
  return why;
}

std::string ZooPrograms::make(const std::string& patch, const std::string& log,
                              std::string& folder) {
  std::string key;
  std::string why = key_of(patch, log, key);
  if (!why.empty()) return why;
  folder = build_.work() + "/programs/" + key;
  used_.insert(key);
  std::error_code error;
  return fs::exists(folder, error) ? "" : build(patch, log, folder);
}

std::string ZooPrograms::build(const std::string& patch, const std::string& log,
                               const std::string& folder) {
  std::string core;
  std::string why = build_.copy_own_core(core);
  if (!why.empty()) return why;
  if (!patch.empty()) {
    Command command;
    command.words = {"patch", "-p1", "--no-backup-if-mismatch",   "-d",
                     core,    "-i",  fs::absolute(patch).string()};
    command.log = log;
    if (!run_command(command, kPatchSeconds)) return "the patch does not apply; see " + log;
  }
  why = build_.build(core, {std::begin(kNames), std::end(kNames)}, log);
  if (!why.empty()) return why;
  const std::string begun = build_.work() + "/programs/.begun";
  std::error_code error;
  fs::remove_all(begun, error);
  why = make_folder(begun);
  if (!why.empty()) return why;
  for (const char* name : kNames) {
    fs::copy_file(build_.program(name), begun + "/" + name, error);
    if (error) return "cannot keep " + build_.program(name) + ": " + error.message();
  }
  fs::rename(begun, folder, error);
  return error ? "cannot keep " + folder + ": " + error.message() : "";
}

void ZooPrograms::forget_others() const {
  std::vector<fs::path> others;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(build_.work() + "/programs", error)) {
    if (!used_.count(entry.path().filename().string())) others.push_back(entry.path());
  }
  for (const fs::path& path : others) fs::remove_all(path, error);
}

}  // namespace twinwalk::fuzz
