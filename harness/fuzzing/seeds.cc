#include "harness/fuzzing/seeds.h"

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

bool fits(const Config& config, const Trace& trace) {
  Trace inside = trace;
  config.constrain(inside);
  return inside.machine == trace.machine && inside.ops == trace.ops;
}

}  // namespace

std::string build_seeds(const std::string& seeds, const std::string& folder, unsigned& made,
                        const Config* config) {
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
    if (config != nullptr && !fits(*config, read.trace)) continue;
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
