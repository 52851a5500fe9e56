// Rows about the fuzz targets, which are other builds of the same sources: measured by running
// them.

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "harness/bench/child_time.h"
#include "harness/bench/row_set.h"
#include "harness/bench/typical_trace.h"
#include "harness/trace/binary.h"

namespace twinwalk::bench {
namespace {

namespace fs = std::filesystem;

// The typical traces as files in a folder of their own, for as long as it lives, and as many times
// the name of an empty one.
class TraceFiles {
 public:
  TraceFiles()
      : folder_(fs::temp_directory_path() / ("twinwalk-bench-" + std::to_string(getpid()))) {
    fs::create_directory(folder_);
    std::vector<std::uint8_t> bytes;
    for (unsigned seed = 0; seed < kTypicalTraces; ++seed) {
      encode_raw(typical_trace(seed), bytes);
      const std::string path = (folder_ / std::to_string(seed)).string();
      std::ofstream(path, std::ios::binary)
          .write(reinterpret_cast<const char*>(bytes.data()),
                 static_cast<std::streamsize>(bytes.size()));
      paths_.push_back(path);
    }
    const std::string empty = (folder_ / "empty").string();
    std::ofstream{empty};
    none_.assign(kTypicalTraces, empty);
  }
  ~TraceFiles() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  TraceFiles(const TraceFiles&) = delete;
  TraceFiles& operator=(const TraceFiles&) = delete;

  const std::vector<std::string>& paths() const { return paths_; }
  const std::vector<std::string>& none() const { return none_; }

 private:
  fs::path folder_;
  std::vector<std::string> paths_, none_;
};

// libFuzzer reads and runs each file that it is given `runs` times, and ends.
std::optional<double> cpu_ns(const std::string& program, unsigned runs,
                             const std::vector<std::string>& files) {
  std::vector<std::string> words = {program, "-detect_leaks=0", "-runs=" + std::to_string(runs)};
  words.insert(words.end(), files.begin(), files.end());
  return cpu_ns_of(words);
}

// Executions a second, audit and all, without what it takes to start, to read files and to end.
void throughput(RowSet& rows, const std::string& row, const std::string& program, unsigned runs,
                double least) {
  constexpr unsigned kRepeats = 3;
  const TraceFiles files;
  double all = std::numeric_limits<double>::infinity(), none = all;
  for (unsigned i = 0; i < kRepeats; ++i) {
    const auto a = cpu_ns(program, runs, files.paths()), b = cpu_ns(program, runs, files.none());
    if (!a || !b) return rows.missing(row, "traces/s");
    all = std::min(all, *a);
    none = std::min(none, *b);
  }
  rows.at_least(row, 1e9 * runs * kTypicalTraces / (all - none), "traces/s", least);
}

}  // namespace

void worker_rows(RowSet& rows, const Programs& programs) {
  if (!programs.worker.empty()) {
    throughput(rows, "trace-64-coverage", programs.worker, 4000, 50'000);
  }
  if (!programs.sanitized.empty()) {
    throughput(rows, "trace-64-sanitized", programs.sanitized, 500, 10'000);
  }
}

}  // namespace twinwalk::bench
