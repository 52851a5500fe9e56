#include "harness/cli/forms.h"

#include <cstdint>
#include <utility>

#include "harness/cli/input.h"
#include "harness/cli/output.h"
#include "harness/trace/binary.h"
#include "harness/trace/print.h"

namespace twinwalk::cli {

int format_traces(const std::vector<std::string>& paths, bool check) {
  struct Change {
    std::string path, canonical;
  };
  std::vector<Change> changes;
  for (const std::string& path : expand_paths(paths)) {
    const std::string text = read_file(path);
    std::string canonical = print(parse_trace(path, text, Input::kText));
    if (text != canonical || (path == "-" && !check))
      changes.push_back({path, std::move(canonical)});
  }
  for (const Change& change : changes) {
    if (!check) write_file(change.path, change.canonical);
    if (check || change.path != "-") print("{}\n", change.path);
  }
  return check && !changes.empty() ? kExitFound : kExitGood;
}

int encode_trace(const std::string& path, const std::string& out) {
  std::vector<std::uint8_t> bytes;
  encode(load_trace(path, Input::kAny).trace, bytes);
  write_file(out, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  return kExitGood;
}

int decode_trace(const std::string& path, const std::string& out, const Reading& reading) {
  write_file(out, print(load_trace(path, reading).trace));
  return kExitGood;
}

}  // namespace twinwalk::cli
