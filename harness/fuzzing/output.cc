#include "harness/fuzzing/output.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include "harness/fuzzing/atomic_file.h"
#include "harness/fuzzing/candidate_store.h"
#include "harness/trace/binary.h"
#include "harness/trace/load.h"
#include "harness/trace/schema.h"

namespace twinwalk::fuzz {
namespace {

namespace fs = std::filesystem;

std::string free_name() {
  for (unsigned n = 1;; ++n) {
    const std::string name = "twinwalk-out/" + std::to_string(n);
    std::error_code error;
    if (!fs::exists(name, error)) return name;
  }
}

std::string check_writable(const std::string& folder) {
  const std::string probe = folder + "/.probe";
  const std::string why = write_atomically(probe, std::string_view("probe\n"));
  std::error_code error;
  fs::remove(probe, error);
  return why;
}

// One load from an address that nothing maps.
Trace smallest_trace() {
  Trace t;
  t.ops.push_back(make_op(Verb::kAccess));
  return t;
}

std::string put_seed(const Trace& trace, const std::string& folder) {
  std::vector<std::uint8_t> bytes;
  encode_raw(trace, bytes);
  return write_atomically(folder + "/seed-" + hex8(hash_bytes(bytes)), bytes);
}

}  // namespace

std::string make_output(const std::string& root, Output& out) {
  std::error_code error;
  const fs::path absolute = fs::absolute(root.empty() ? free_name() : root, error);
  if (error) return "cannot use " + root + ": " + error.message();
  out.root = absolute.lexically_normal().string();
  while (out.root.size() > 1 && out.root.back() == '/') out.root.pop_back();
  for (const std::string& folder : {out.root, out.findings(), out.candidates(), out.workers()}) {
    std::string why = make_folder(folder);
    if (why.empty()) why = check_writable(folder);
    if (!why.empty()) return why;
  }
  return {};
}

std::string build_seeds(const std::string& seeds, const std::string& folder, unsigned& made) {
  made = 0;
  std::string why = make_folder(folder);
  if (!why.empty()) return why;
  std::vector<std::string> paths;
  std::error_code error;
  if (!seeds.empty()) {
    for (const auto& entry : fs::recursive_directory_iterator(seeds, error)) {
      if (entry.path().extension() == ".walk") paths.push_back(entry.path().string());
    }
  }
  std::sort(paths.begin(), paths.end());
  for (const std::string& path : paths) {
    const ParseResult read = load_trace(path);
    if (!read || read.trace.ops.size() > kMaxFuzzOps)
      continue;  // the tests of the corpus say so, not the fuzzer
    why = put_seed(read.trace, folder);
    if (!why.empty()) return why;
    ++made;
  }
  if (made == 0) {
    why = put_seed(smallest_trace(), folder);
    made = why.empty() ? 1 : 0;
  }
  return why;
}

}  // namespace twinwalk::fuzz
