#include "harness/fuzzing/input_corpus.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "harness/fuzzing/atomic_file.h"
#include "harness/fuzzing/candidate_store.h"
#include "harness/fuzzing/child.h"
#include "harness/fuzzing/config.h"
#include "harness/fuzzing/interrupts.h"
#include "harness/fuzzing/sync_folder.h"
#include "harness/fuzzing/worker.h"
#include "harness/fuzzing/worker_stats.h"
#include "harness/trace/binary.h"
#include "harness/trace/load.h"
#include "harness/trace/schema.h"

namespace twinwalk::fuzz {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxFile = 1 << 20;

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with('.'); }

// Of one AFL++ instance, or of those that share a folder; none elsewhere.
std::vector<fs::path> queues_of(const fs::path& folder) {
  std::vector<fs::path> queues;
  std::error_code error;
  if (fs::is_regular_file(folder / "fuzzer_setup", error)) queues.push_back(folder / "queue");
  for (const Instance& instance : instances_in(folder)) queues.emplace_back(instance.queue);
  return queues;
}

void list_below(const fs::path& folder, std::vector<std::string>& out) {
  std::error_code error;
  for (auto it = fs::recursive_directory_iterator(folder, error);
       it != fs::recursive_directory_iterator(); it.increment(error)) {
    if (is_hidden(it->path())) {
      it.disable_recursion_pending();
    } else if (it->is_regular_file(error)) {
      out.push_back(it->path().string());
    }
  }
}

std::string last_line(const std::string& log) {
  const std::string words = tail_of(log, 2000);
  const std::size_t end = words.find_last_not_of("\n ");
  if (end == std::string::npos) return "it says nothing";
  const std::size_t begin = words.rfind('\n', end);
  return words.substr(begin + 1, end - begin);  // npos + 1 is 0
}

}  // namespace

std::vector<std::string> list_inputs(const std::string& path) {
  std::error_code error;
  if (fs::is_regular_file(path, error)) return {path};
  std::vector<std::string> out;
  const std::vector<fs::path> queues = queues_of(path);
  for (const fs::path& queue : queues) list_below(queue, out);
  if (queues.empty()) list_below(path, out);
  std::sort(out.begin(), out.end());
  return out;
}

InputCorpus::InputCorpus(std::string program, std::string config, std::string work)
    : program_(std::move(program)), config_(std::move(config)), work_(std::move(work)) {}

// A folder of inputs as the target reads them, named after what they hold, so that the order in
// which the engine takes them is that of nobody's clock.
std::string InputCorpus::stage(const std::vector<std::string>& from, std::string& folder) {
  folder = work_ + "/staged-" + std::to_string(staged_++);
  std::string why = make_folder(folder);
  for (const std::string& source : from) {
    for (const std::string& path : list_inputs(source)) {
      if (!why.empty()) return why;
      if (interrupted()) return "interrupted";
      std::string text;
      if (!read_file(path, kMaxFile, text)) return "cannot read " + path;
      std::vector<std::uint8_t> bytes(text.begin(), text.end());
      if (path.ends_with(".walk")) {
        const ParseResult read = load_trace(path);
        if (!read) return to_text(*read.error);
        if (read.trace.ops.size() > kMaxFuzzOps) continue;  // more than an input can hold
        encode_raw(read.trace, bytes);
      }
      why = write_atomically(
          folder + "/" + hex8(hash_bytes(bytes)) + "-" + std::to_string(bytes.size()), bytes);
    }
  }
  return why;
}

std::string InputCorpus::run(const std::vector<std::string>& words, const std::string& log) {
  Command c;
  c.words = words;
  c.environment = {{"TWINWALK_FUZZ_CONFIG", config_},
                   {"TWINWALK_FUZZ_STATS", stats_path()},
                   {"TWINWALK_FUZZ_CANDIDATES", ""}};
  c.log = log;
  StatsFile stats;
  std::string why = stats.create(stats_path());
  if (!why.empty()) return why;
  Child child;
  if (!child.start(c)) return "cannot start " + program_;
  while (!child.wait(0.1)) {
    if (!interrupted()) continue;
    child.stop(2);
    return "interrupted";
  }
  if (child.exited() && child.exit_code() == 0) return {};
  return program_ + " failed: " + last_line(log);
}

std::string InputCorpus::merge(const std::string& to, const std::vector<std::string>& from) {
  std::string staged;
  std::string why = make_folder(to);
  if (why.empty()) why = stage(from, staged);
  if (!why.empty()) return why;
  // An input that ends the target is left out: libFuzzer goes on without it.
  return run(
      {program_, "-merge=1", "-detect_leaks=0", "-timeout=10", "-max_len=1048576", to, staged},
      work_ + "/merge.log");
}

std::string InputCorpus::minimise(const std::string& folder) {
  std::string staged;
  std::string why = stage({folder}, staged);
  const std::string beside =
      fs::path(folder).lexically_normal().parent_path() /
      ("." + fs::path(folder + "/.").lexically_normal().parent_path().filename().string() + ".new");
  std::error_code error;
  fs::remove_all(beside, error);  // of a run that was killed
  if (why.empty()) why = make_folder(beside);
  if (why.empty()) {
    why = run({program_, "-set_cover_merge=1", "-detect_leaks=0", "-timeout=10", "-max_len=1048576",
               beside, staged},
              work_ + "/minimise.log");
  }
  if (why.empty() && list_inputs(beside).empty() && !list_inputs(folder).empty())
    why = program_ + " kept no input of " + folder;
  if (why.empty() &&
      ::renameat2(AT_FDCWD, beside.c_str(), AT_FDCWD, folder.c_str(), RENAME_EXCHANGE) != 0)
    why = "cannot replace " + folder + ": " + std::strerror(errno);
  fs::remove_all(beside, error);  // the folder of before, or what came of a failure
  return why;
}

std::string InputCorpus::measure(const std::string& folder, Reach& out) {
  const std::string log = work_ + "/measure.log";
  std::string why = run({program_, "-runs=0", "-detect_leaks=0", "-max_len=1048576",
                         "-len_control=0", "-timeout=10", folder},
                        log);
  if (!why.empty()) return why;
  std::string text;
  if (!read_file(log, std::size_t{64} << 20, text)) return "cannot read " + log;
  out.edges = edges_in_log(text);
  StatsFile stats;
  if (!stats.open(stats_path())) return "cannot read " + stats_path();
  out.mmu_states =
      static_cast<std::uint64_t>(std::count_if(std::begin(stats->hits), std::end(stats->hits),
                                               [](std::uint32_t hits) { return hits != 0; }));
  out.divergences = stats->divergences;
  return {};
}

std::string InputCorpus::stat(const std::string& folder, CorpusStat& out) {
  out = {};
  const std::optional<Config> config = find_config(config_);
  if (!config) return "no configuration '" + config_ + "'; there are: " + config_names();
  std::string staged;
  std::string why = stage({folder}, staged);
  if (!why.empty()) return why;
  Trace trace;
  for (const std::string& path : list_inputs(staged)) {
    std::string text;
    if (!read_file(path, kMaxFile, text)) return "cannot read " + path;
    decode({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}, trace);
    config->constrain(trace);
    ++out.inputs;
    out.bytes += text.size();
    out.operations += trace.ops.size();
    ++out.machines[std::string(name_of(trace.machine.core)) + ' ' +
                   std::string(name_of(trace.machine.mode))];
  }
  return out.inputs == 0 ? std::string() : measure(staged, out.reach);
}

}  // namespace twinwalk::fuzz
