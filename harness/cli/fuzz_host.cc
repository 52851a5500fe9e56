#include "harness/cli/fuzz_host.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <thread>
#include <vector>

#include "harness/cli/host_worker.h"
#include "harness/cli/output.h"
#include "harness/fuzzing/atomic_file.h"
#include "harness/fuzzing/config.h"
#include "harness/fuzzing/interrupts.h"
#include "harness/fuzzing/programs.h"
#include "harness/fuzzing/seeds.h"
#include "harness/fuzzing/summary.h"
#include "harness/trace/binary.h"

namespace twinwalk::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMostInput = 1 << 20;  // bytes of a file of the corpus
constexpr auto kTick = std::chrono::milliseconds(50);
constexpr double kLine = 1.0, kPlainLine = 10.0;  // between progress lines, on a terminal and not
constexpr double kWrapUp = 30, kWrapUpInterrupted = 5;  // most time for findings after the end

// Shadow paging is what the machine says; whether KVM shadows is its module's matter.
bool host_can_be(const fuzz::Config& config) {
  return config.name.compare(0, 7, "shadow-") == 0 || config.needs_host;
}

std::string host_config_names() {
  std::string names;
  for (const fuzz::Config& config : fuzz::configs()) {
    if (host_can_be(config)) names += (names.empty() ? "" : ", ") + config.name;
  }
  return names;
}

class Run {
 public:
  Run(const fuzz::FuzzOptions& options, const hosts::HostVariant& variant)
      : options_(options), config_(*fuzz::find_config(options.config)) {
    all_.config = &config_;
    all_.variant = &variant;
    all_.now = [this] { return now(); };
  }

  int run() {
    const fuzz::Interrupts handlers;
    prepare();
    start();
    watch();
    finish();
    if (!all_.error.empty()) throw Failure(all_.error);
    report();
    return all_.findings.empty() ? kExitGood : kExitFound;
  }

 private:
  void need(const std::string& why) const {
    if (!why.empty()) throw Failure(why);
  }

  void prepare() {
    need(fuzz::make_output(options_.out, all_.output));
    all_.corpus = options_.corpus.empty() ? all_.output.corpus() : options_.corpus;
    need(fuzz::make_folder(all_.corpus));
    const std::string seeds = fuzz::find_programs().corpus;
    unsigned made = 0;
    if (options_.corpus.empty() || std::filesystem::is_empty(all_.corpus))
      need(fuzz::build_seeds(seeds.empty() ? "" : seeds + "/seed", all_.corpus, made));
    std::vector<std::string> paths;
    for (const auto& entry : std::filesystem::directory_iterator(all_.corpus))
      paths.push_back(entry.path().string());
    std::sort(paths.begin(), paths.end());
    for (const std::string& path : paths) add_seed(path);
  }

  // Unless it is of another kind of machine: what it is about would not be run.
  void add_seed(const std::string& path) {
    std::string bytes;
    Trace trace;
    if (!fuzz::read_file(path, kMostInput, bytes)) return;
    decode({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}, trace);
    const Machine& machine = trace.machine;
    const bool fits = config_.needs_host
                          ? machine.core == Dimension::kBare && machine.nested == Nesting::kNpt
                          : machine.core == Dimension::kShadow && machine.nested == Nesting::kNone;
    if (fits && !trace.ops.empty()) all_.population.add_seed(trace);
  }

  // The clock starts when all hosts are up.
  void start() {
    const unsigned jobs =
        options_.jobs != 0 ? options_.jobs : std::max(1u, std::thread::hardware_concurrency());
    for (unsigned n = 0; n < jobs; ++n) threads_.emplace_back([this, n] { work_on_host(all_, n); });
    while (!all_.stop && !fuzz::interrupted()) {
      std::this_thread::sleep_for(kTick);
      const std::lock_guard lock(all_.mutex);
      if (all_.ready == jobs) break;
    }
    begin_ = Clock::now();
    all_.go = true;
  }

  double now() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }

  fuzz::Moment moment() {
    fuzz::Moment m;
    m.seconds = now();
    m.execs = all_.execs;
    m.ops = all_.ops;
    m.checks = all_.checks;
    m.mmu_states = all_.population.states();
    m.corpus = all_.population.size();
    const std::lock_guard lock(all_.mutex);
    m.divergences = m.new_divergences = all_.findings.size();
    return m;
  }

  void watch() {
    const bool terminal = isatty(STDERR_FILENO) != 0;
    double next_line = kLine, next_moment = 0;
    fuzz::Moment shown;
    while (!all_.stop && !fuzz::interrupted() &&
           (options_.seconds == 0 || now() < options_.seconds)) {
      std::this_thread::sleep_for(kTick);
      if (now() >= next_moment) {
        next_moment = now() + 1;
        moments_.push_back(moment());
      }
      if (now() < next_line) continue;
      next_line = now() + (terminal ? kLine : kPlainLine);
      const fuzz::Moment m = moment();
      const std::string line = progress_line(m, shown, all_.waiting);
      if (terminal) {
        fmt::print(stderr, "\r{}\033[K", line);
      } else {
        fmt::print(stderr, "{}\n", line);
      }
      std::fflush(stderr);
      shown = m;
    }
    if (terminal) std::fputc('\n', stderr);
  }

  // What was found is made smaller yet, within bounds.
  void finish() {
    total_ = moment();
    all_.stop = true;
    const double end = now() + (fuzz::interrupted() ? kWrapUpInterrupted : kWrapUp);
    fuzz::forget_interrupt();
    while (all_.waiting != 0 && !fuzz::interrupted() && now() < end)
      std::this_thread::sleep_for(kTick);
    all_.hurry = true;
    for (std::thread& thread : threads_) thread.join();
  }

  void report() {
    fuzz::RunRecord run;
    run.options = options_;
    run.options.engine = fuzz::Engine::kBatches;
    run.subject = all_.subject;
    run.subject_words =
        fmt::format(" --subject {} --host {}", all_.variant->subject, label_of(*all_.variant));
    run.total = total_;
    run.total.divergences = run.total.new_divergences = all_.findings.size();
    run.moments = moments_;
    run.findings = all_.findings;
    run.workers = static_cast<unsigned>(threads_.size());
    run.remarks.push_back(fmt::format(
        "{} steps were skipped, since the host or the subject cannot do them; {} divergences are "
        "known deviations of this host (corpus/known/kvm.json)",
        all_.skipped.load(), all_.known.load()));
    if (!all_.behind_known.empty())
      run.remarks.push_back(fmt::format(
          "{} kinds of divergences came only after a known deviation, however small they were "
          "made, and are taken for what it leaves behind: {}",
          all_.behind_known.size(), fmt::join(all_.behind_known, ", ")));
    if (all_.population.states() == 0)
      run.remarks.emplace_back("this host says nothing of what programs reach: nothing steered");
    need(fuzz::write_atomically(all_.output.summary(), to_json(run)));
    if (options_.write_report) need(options_.write_report(run, all_.output));
    for (const std::string& remark : run.remarks) fmt::print(stderr, "twinwalk fuzz: {}\n", remark);
    print("{}\n{}\n", progress_line(run.total, fuzz::Moment{}, 0), all_.output.report());
  }

  const fuzz::FuzzOptions& options_;
  const fuzz::Config config_;
  HostFuzzing all_;
  std::vector<std::thread> threads_;
  Clock::time_point begin_ = Clock::now();
  std::vector<fuzz::Moment> moments_;
  fuzz::Moment total_;
};

}  // namespace

int fuzz_host(const fuzz::FuzzOptions& options, const SubjectWords& words) {
  if (words.host == "local")
    throw Failure(fmt::format("fuzz --subject {}: --host: found `local`; allowed: {}",
                              words.subject, host_names()));
  const hosts::HostVariant& variant = *variants_of(words.host, words.subject).front();
  if (!hosts::can_watch(variant))
    throw Failure(fmt::format("fuzz: subject {} on {} cannot say what it reaches", words.subject,
                              label_of(variant)));
  if (const auto config = fuzz::find_config(options.config); !config || !host_can_be(*config))
    throw Failure(fmt::format("--config: found `{}`; subject {} has: {}", options.config,
                              words.subject, host_config_names()));
  if (fuzz::find_config(options.config)->needs_host && !hosts::can_nest(variant))
    throw Failure(fmt::format("--config {}: there are no hypervisors as guests on {}",
                              options.config, label_of(variant)));
  return Run(options, variant).run();
}

}  // namespace twinwalk::cli
