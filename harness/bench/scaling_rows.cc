// How the throughput of fuzzing grows with its workers: the fuzz target as `fuzz` runs it, one
// worker alone and one on each core at once, on copies of one corpus. By the wall clock, unlike
// other rows: waiting for each other is what is looked for.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <list>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "harness/bench/measure.h"
#include "harness/bench/row_set.h"
#include "harness/fuzzing/seeds.h"
#include "harness/fuzzing/worker.h"

namespace twinwalk::bench {
namespace {

namespace fs = std::filesystem;

constexpr unsigned kRepeats = 5;
constexpr double kGrowSeconds = 8;  // of all workers, before anything is measured
constexpr double kSeconds = 4;
constexpr double kMostToStart = 60;
constexpr double kLeastEfficiency = 0.9;

void sleep_for(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

class Workers {
 public:
  Workers(std::string program, const std::string& seeds)
      : program_(std::move(program)),
        folder_(fs::temp_directory_path() / ("twinwalk-scaling-" + std::to_string(getpid()))) {
    fs::create_directories(folder_ / "candidates");
    unsigned made = 0;
    good_ = fuzz::build_seeds(seeds, corpus(), made).empty();
  }
  ~Workers() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // A corpus as it is some time after the start, when finds have become rare.
  bool grow(unsigned workers) {
    return good_ && operations_per_second(workers, kGrowSeconds, corpus()).has_value();
  }

  // Of all of `workers` together, on a copy of the corpus that they share; nothing if one of them
  // did not run through.
  std::optional<double> throughput(unsigned workers) {
    const fs::path copy = folder_ / "copy";
    std::error_code error;
    fs::remove_all(copy, error);
    fs::copy(corpus(), copy, error);
    if (error) return std::nullopt;
    return operations_per_second(workers, kSeconds, copy.string());
  }

 private:
  std::string corpus() const { return (folder_ / "corpus").string(); }

  std::optional<double> operations_per_second(unsigned workers, double seconds,
                                              const std::string& corpus) {
    std::list<fuzz::Worker> running;
    for (unsigned n = 0; n < workers; ++n) {
      fuzz::WorkerPlan plan;
      plan.number = n;
      plan.program = program_;
      plan.config = "all";
      plan.corpus = corpus;
      plan.candidates = (folder_ / "candidates").string();
      plan.folder = (folder_ / std::to_string(n)).string();
      plan.seed = ++seed_;
      running.emplace_back();
      if (!running.back().start(plan).empty()) return std::nullopt;
    }
    const double give_up = kMostToStart + seconds_now();
    while (!std::all_of(running.begin(), running.end(), has_read_corpus)) {
      if (seconds_now() > give_up) return std::nullopt;
      sleep_for(0.05);
    }
    const double from = seconds_now();
    const std::uint64_t before = operations(running);
    sleep_for(seconds);
    const double span = seconds_now() - from;
    const std::uint64_t done = operations(running) - before;
    std::vector<fuzz::Crash> crashes;
    for (fuzz::Worker& worker : running) {
      if (!worker.tend(crashes) || worker.restarts() != 0) return std::nullopt;
    }
    for (fuzz::Worker& worker : running) worker.ask_to_stop();
    for (fuzz::Worker& worker : running) worker.stop(5);
    return static_cast<double>(done) / span;
  }

  // libFuzzer says so once it has run what was there.
  static bool has_read_corpus(const fuzz::Worker& worker) {
    return fuzz::tail_of(worker.plan().folder + "/log", 1 << 20).find("INITED") !=
           std::string::npos;
  }
  static std::uint64_t operations(const std::list<fuzz::Worker>& workers) {
    std::uint64_t n = 0;
    for (const fuzz::Worker& worker : workers) n += worker.stats().ops.load();
    return n;
  }
  static double seconds_now() { return static_cast<double>(wall_now_ns()) / 1e9; }

  std::string program_;
  fs::path folder_;
  std::uint64_t seed_ = 0;
  bool good_ = false;
};

}  // namespace

void scaling_rows(RowSet& rows, const Programs& programs) {
  if (programs.worker.empty()) return;
  const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
  Workers workers(programs.worker, programs.seeds);
  double alone = 0, together = 0;  // the best: what others do on the machine only takes away
  bool measured = workers.grow(cores);
  for (unsigned i = 0; i < kRepeats && measured; ++i) {
    const std::optional<double> one = workers.throughput(1), all = workers.throughput(cores);
    measured = one && all;
    alone = std::max(alone, one.value_or(0));
    together = std::max(together, all.value_or(0));
  }
  if (!measured) return rows.missing("scaling", "ops/s");
  rows.at_least("scaling", together, "ops/s", cores * alone, kLeastEfficiency);
}

}  // namespace twinwalk::bench
