#include "harness/fuzzing/worker.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>

#include "harness/fuzzing/atomic_file.h"
#include "harness/fuzzing/sync_folder.h"

namespace twinwalk::fuzz {
namespace {

namespace fs = std::filesystem;

constexpr unsigned kMaxIdleDeaths = 5;
constexpr unsigned kHangSeconds = 10;  // for one trace, which takes microseconds
constexpr const char* kSanitizerWords[] = {"ERROR: AddressSanitizer",
                                           "runtime error:", "ERROR: LeakSanitizer",
                                           "ERROR: MemorySanitizer", "WARNING: ThreadSanitizer"};

bool contains(const std::string& text, const char* word) {
  return text.find(word) != std::string::npos;
}

std::string line_around(const std::string& text, std::size_t at) {
  const std::size_t begin = text.rfind('\n', at);
  const std::size_t end = text.find('\n', at);
  return text.substr(
      begin == std::string::npos ? 0 : begin + 1,
      end == std::string::npos ? end : end - (begin == std::string::npos ? 0 : begin + 1));
}

Command libfuzzer_command(const WorkerPlan& plan, unsigned restarts) {
  Command c;
  c.words = {plan.program,
             plan.corpus,
             "-reload=1",
             "-len_control=0",
             "-entropic=0",  // its book-keeping costs more than it finds here
             "-max_len=" + std::to_string(kMaxInput),
             "-timeout=" + std::to_string(kHangSeconds),
             "-rss_limit_mb=4096",
             "-detect_leaks=0",
             "-print_final_stats=0",
             "-artifact_prefix=" + plan.folder + "/",
             "-seed=" + std::to_string(plan.seed + 1000 * restarts)};
  return c;
}

Command afl_command(const WorkerPlan& plan, unsigned restarts) {
  Command c;
  c.words = {"afl-fuzz",
             "-i",
             restarts ? "-" : plan.corpus,
             "-o",
             plan.afl_output,
             plan.afl_main ? "-M" : "-S",
             plan.afl_instance,
             "-s",
             std::to_string(plan.seed),
             "-G",
             std::to_string(kMaxInput),
             "-t",
             "2000",
             "-m",
             "none",
             "--",
             plan.program};
  c.environment = {{"AFL_CUSTOM_MUTATOR_LIBRARY", plan.mutator},
                   {"AFL_CUSTOM_MUTATOR_ONLY", "1"},
                   {"AFL_DISABLE_TRIM", "1"},
                   {"AFL_NO_UI", "1"},
                   {"AFL_NO_AFFINITY", "1"},
                   {"AFL_SKIP_CPUFREQ", "1"},
                   {"AFL_TRY_AFFINITY", "1"},
                   {"AFL_AUTORESUME", "1"},
                   {"AFL_SYNC_TIME", "1"},  // minutes; the main instance looks twice as often
                   {"AFL_FAST_CAL", "1"},
                   {"AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES", "1"}};
  return c;
}

}  // namespace

std::string tail_of(const std::string& path, std::size_t bytes) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) return {};
  const auto size = static_cast<std::size_t>(in.tellg());
  std::string out(std::min(size, bytes), '\0');
  in.seekg(static_cast<std::streamoff>(size - out.size()));
  in.read(out.data(), static_cast<std::streamsize>(out.size()));
  return out;
}

DivergenceClass class_of_crash(const std::string& log, const std::string& artifact_name) {
  if (artifact_name.starts_with("timeout-") || artifact_name.starts_with("oom-") ||
      contains(log, "ERROR: libFuzzer: timeout")) {
    return DivergenceClass::kHang;
  }
  for (const char* word : kSanitizerWords) {
    if (contains(log, word)) return DivergenceClass::kSanitizer;
  }
  return DivergenceClass::kTrap;
}

std::string reason_of_crash(const std::string& log) {
  for (const char* word : kSanitizerWords) {
    const std::size_t at = log.find(word);
    if (at != std::string::npos) return line_around(log, at);
  }
  for (const char* word : {"ERROR: libFuzzer", "DEADLYSIGNAL", "terminate called"}) {
    const std::size_t at = log.find(word);
    if (at != std::string::npos) return line_around(log, at);
  }
  return {};
}

std::uint64_t edges_in_log(const std::string& log) {
  const std::size_t at = log.rfind("cov: ");
  return at == std::string::npos ? 0 : std::strtoull(log.c_str() + at + 5, nullptr, 10);
}

Command command_of(const WorkerPlan& plan, unsigned restarts) {
  Command c =
      plan.engine == Engine::kAfl ? afl_command(plan, restarts) : libfuzzer_command(plan, restarts);
  c.environment.emplace_back("TWINWALK_FUZZ_CONFIG", plan.config);
  c.environment.emplace_back("TWINWALK_FUZZ_CANDIDATES", plan.candidates);
  c.environment.emplace_back("TWINWALK_FUZZ_STATS", plan.folder + "/stats");
  if (plan.sanitized) {
    c.environment.emplace_back("ASAN_OPTIONS",
                               "abort_on_error=0:allocator_may_return_null=1:handle_abort=1");
    c.environment.emplace_back("UBSAN_OPTIONS", "print_stacktrace=1:halt_on_error=1");
  }
  c.log = plan.folder + "/log";
  c.append_log = restarts > 0;
  return c;
}

std::string Worker::start(WorkerPlan plan) {
  plan_ = std::move(plan);
  std::string why = make_folder(plan_.folder);
  if (why.empty()) why = stats_.create(plan_.folder + "/stats");
  if (!why.empty()) return why;
  if (!child_.start(command_of(plan_, restarts_))) return "cannot start " + plan_.program;
  return {};
}

std::uint64_t Worker::edges() {
  if (plan_.engine == Engine::kLibFuzzer) {
    edges_ = std::max(edges_, edges_in_log(tail_of(log(), 4096)));
  } else {
    const std::string stats =
        tail_of(plan_.afl_output + "/" + plan_.afl_instance + "/fuzzer_stats", 8192);
    const std::size_t at = stats.find("edges_found");
    const std::size_t colon = at == std::string::npos ? at : stats.find(':', at);
    if (colon != std::string::npos) edges_ = std::strtoull(stats.c_str() + colon + 1, nullptr, 10);
  }
  return edges_;
}

// Inputs that ended it: libFuzzer's artifacts lie in its folder, AFL++'s in crashes/ and hangs/.
void Worker::collect(std::vector<Crash>& crashes) {
  const std::string words = tail_of(log(), 64 << 10);
  std::vector<fs::path> folders = {plan_.folder};
  if (plan_.engine == Engine::kAfl) {
    const fs::path own = fs::path(plan_.afl_output) / plan_.afl_instance;
    folders = {own / "crashes", own / "hangs"};
  }
  for (const fs::path& folder : folders) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
      const std::string name = entry.path().filename().string(), path = entry.path().string();
      const bool input = plan_.engine == Engine::kAfl
                             ? name.starts_with("id:")
                             : name.starts_with("crash-") || name.starts_with("timeout-") ||
                                   name.starts_with("oom-") || name.starts_with("leak-");
      if (!input || std::find(seen_.begin(), seen_.end(), path) != seen_.end()) continue;
      seen_.push_back(path);
      const std::string kind = folder.filename() == "hangs" ? "timeout-" : name;
      crashes.push_back({class_of_crash(words, kind), path, reason_of_crash(words)});
    }
  }
}

bool Worker::tend(std::vector<Crash>& crashes) {
  if (child_.running()) {
    if (plan_.engine == Engine::kAfl) collect(crashes);
    return true;
  }
  const std::size_t before = crashes.size();
  collect(crashes);
  const std::uint64_t execs = stats_->execs.load();
  idle_deaths_ = execs > execs_at_start_ + 1000 || crashes.size() > before ? 0 : idle_deaths_ + 1;
  execs_at_start_ = execs;
  if (idle_deaths_ >= kMaxIdleDeaths) {
    const std::string words = tail_of(log(), 2000);
    const std::size_t last = words.find_last_not_of("\n ");
    error_ = plan_.program + " does not run: " +
             (last == std::string::npos ? "no output" : line_around(words, last));
    return false;
  }
  ++restarts_;
  if (child_.start(command_of(plan_, restarts_))) return true;
  error_ = "cannot start " + plan_.program;
  return false;
}

void Worker::ask_to_stop() { child_.send(SIGTERM); }
void Worker::stop(double seconds) { child_.stop(seconds); }

}  // namespace twinwalk::fuzz
