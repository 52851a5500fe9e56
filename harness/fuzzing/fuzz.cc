#include "harness/fuzzing/fuzz.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <list>
#include <optional>
#include <thread>

#include "harness/fuzzing/atomic_file.h"
#include "harness/fuzzing/candidate_store.h"
#include "harness/fuzzing/config.h"
#include "harness/fuzzing/fleet.h"
#include "harness/fuzzing/interrupts.h"
#include "harness/fuzzing/programs.h"
#include "harness/fuzzing/referee.h"
#include "harness/fuzzing/seeds.h"
#include "harness/fuzzing/summary.h"
#include "harness/fuzzing/sync_folder.h"
#include "harness/fuzzing/triage.h"
#include "harness/fuzzing/worker.h"

namespace twinwalk::fuzz {
namespace {

using Clock = std::chrono::steady_clock;

int fail(const std::string& why) {
  std::fprintf(stderr, "twinwalk fuzz: %s\n", why.c_str());
  return 2;
}

class Run {
 public:
  explicit Run(const FuzzOptions& options) : options_(options), programs_(find_programs()) {}

  int run() {
    std::string why = prepare();
    if (why.empty()) why = start_workers();
    if (!why.empty()) return fail(why);
    start_referee();
    begin_ = Clock::now();
    why = watch();
    finish();
    const std::string written = report();
    if (why.empty()) why = written;
    if (!why.empty()) return fail(why);
    return new_findings() ? 1 : 0;
  }

 private:
  static constexpr double kTick = 0.1;        // seconds between looks
  static constexpr double kLine = 1.0;        // between progress lines on a terminal
  static constexpr double kPlainLine = 10.0;  // elsewhere
  static constexpr double kWrapUp = 30;       // most time for triage after the end
  static constexpr double kWrapUpInterrupted = 5;

  std::string prepare() {
    config_ = find_config(options_.config);
    if (!config_) return "no configuration '" + options_.config + "'; there are: " + config_names();
    if (config_->needs_host)
      return "configuration '" + options_.config + "' is for subject kvm and a host";
    if (options_.unicorn_share > 100) return "--unicorn-share is a percentage, 0 to 100";
    if (options_.seconds < 0) return "--seconds must not be negative";
    if (!options_.sync.empty() && !options_.corpus.empty())
      return "--sync and --corpus exclude each other: what a fleet shares is its corpus";
    if (options_.sync.empty() && !options_.name.empty()) return "--name is for --sync";
    std::string why = missing_target(programs_, options_.engine);
    if (why.empty() && !options_.sync.empty()) why = fleet_.join(options_.sync, options_.name);
    if (why.empty()) why = make_output(options_.out, output_);
    if (!why.empty()) return why;
    corpus_ = options_.corpus.empty() ? output_.corpus() : options_.corpus;
    unsigned seeds = 0;
    // A corpus of the user's stays as it is, unless it is empty: some engines want something to
    // begin with.
    if (options_.corpus.empty()) {
      why = build_seeds(programs_.corpus.empty() ? "" : programs_.corpus + "/seed", corpus_, seeds);
    } else if (count_files(corpus_) == 0) {
      why = build_seeds("", corpus_, seeds);
    }
    if (why.empty() && fleet_.joined() && options_.engine == Engine::kLibFuzzer)
      why = fleet_.exchange(corpus_);
    if (!why.empty()) return why;
    TriagePlan plan;
    plan.output = output_;
    plan.config = &*config_;
    plan.unicorn = options_.unicorn_share ? programs_.unicorn : "";
    if (!programs_.corpus.empty()) plan.known = known_findings(programs_.corpus + "/known");
    triage_.emplace_back(plan);
    return {};
  }

  // Where AFL++'s instances are, and the name of one.
  std::string afl_folder() const {
    return fleet_.joined() ? fleet_.folder() : output_.root + "/afl";
  }
  std::string afl_instance(unsigned n) const {
    return fleet_.joined() ? fleet_.instance(n) : "w" + std::to_string(n);
  }

  std::string start_workers() {
    unsigned jobs =
        options_.jobs ? options_.jobs : std::max(1u, std::thread::hardware_concurrency());
    const bool has_main =
        options_.engine == Engine::kAfl && (!fleet_.joined() || fleet_.become_main());
    for (unsigned n = 0; n < jobs; ++n) {
      WorkerPlan plan;
      plan.number = n;
      plan.engine = options_.engine;
      plan.config = config_->name;
      plan.corpus = corpus_;
      plan.candidates = output_.candidates();
      plan.folder = output_.workers() + "/" + std::to_string(n);
      plan.afl_output = afl_folder();
      plan.afl_instance = afl_instance(n);
      plan.afl_main = has_main && n == 0;
      plan.seed = n + 1;
      if (options_.engine == Engine::kAfl) {
        plan.program = programs_.afl_worker;
        plan.mutator = programs_.afl_mutator;
      } else {
        // One of several workers looks for what only sanitizers see.
        plan.sanitized = n == 0 && jobs > 1 && !programs_.sanitized.empty();
        plan.program = plan.sanitized ? programs_.sanitized : programs_.worker;
      }
      workers_.emplace_back();
      std::string why = workers_.back().start(plan);
      if (!why.empty()) return why;
    }
    if (options_.engine == Engine::kLibFuzzer && jobs > 1 && programs_.sanitized.empty()) {
      remark("no worker with sanitizers: there is no asan build");
    }
    return {};
  }

  // What libFuzzer's workers have found and been given, or AFL++'s first instance.
  std::string first_corpus() const {
    return options_.engine == Engine::kAfl ? afl_folder() + "/" + afl_instance(0) + "/queue"
                                           : corpus_;
  }

  void start_referee() {
    if (options_.unicorn_share == 0) return remark("Unicorn is off (--unicorn-share 0)");
    if (programs_.unicorn.empty())
      return remark("Unicorn is off: there is no twinwalk-unicorn here");
    RefereePlan plan;
    plan.config = &*config_;
    plan.unicorn = programs_.unicorn;
    plan.corpus = first_corpus();
    plan.candidates = output_.candidates();
    for (const Worker& w : workers_) plan.worker_stats.push_back(w.plan().folder + "/stats");
    plan.share = options_.unicorn_share / 100.0;
    plan.jobs = static_cast<unsigned>(workers_.size());
    referee_.start(plan);
  }

  void remark(std::string text) {
    std::fprintf(stderr, "twinwalk fuzz: %s\n", text.c_str());
    remarks_.push_back(std::move(text));
  }

  double now() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }
  Triage& triage() { return triage_.front(); }

  // Until the time is over or something ends it; "" or what went wrong.
  std::string watch() {
    const bool terminal = ::isatty(STDERR_FILENO) != 0;
    double next_line = kLine, next_moment = 0;
    while (!interrupted() && (options_.seconds == 0 || now() < options_.seconds)) {
      std::this_thread::sleep_for(std::chrono::duration<double>(kTick));
      std::string why = look();
      if (!why.empty()) return why;
      if (now() >= next_moment) {
        next_moment = now() + 1;
        moments_.push_back(moment());
      }
      if (now() >= next_line) {
        next_line = now() + (terminal ? kLine : kPlainLine);
        show(terminal);
      }
    }
    if (terminal) std::fputc('\n', stderr);
    return {};
  }

  // One look at everything that runs. Returns "" or what must end the run.
  std::string look() {
    std::vector<Crash> crashes;
    for (Worker& w : workers_) {
      if (!w.tend(crashes)) return w.error();
      add_crashes(w, crashes);
      if (w.stats().lost.load(std::memory_order_acquire))
        return std::string("a finding is lost: ") + w.stats().why_lost;
    }
    referee_.tend();
    if (referee_.counts().unavailable && !told_) {
      told_ = true;
      remark(std::string("Unicorn cannot run: ") + referee_.counts().why);
    }
    for (const std::string& path : list_candidates(output_.candidates()))
      triage().add({path, false, {}, {}, {}});
    tend_triage();
    tell_of_fleet(fleet_.tend(now()));
    return triage().error();
  }

  // A shared folder that is full or gone for a while is no reason to stop.
  void tell_of_fleet(const std::string& why) {
    if (why.empty() || told_of_fleet_) return;
    told_of_fleet_ = true;
    remark(why);
  }

  void add_crashes(const Worker& w, std::vector<Crash>& crashes) {
    for (const Crash& c : crashes)
      triage().add({c.input, true, c.divergence, w.plan().program, c.why});
    crashes.clear();
  }

  void tend_triage() {
    if (!triage().tend(now())) return;
    for (; announced_ < triage().findings().size(); ++announced_) {
      const FindingRecord& f = triage().findings()[announced_];
      std::printf("%s %s/%s.walk (%llu operations%s)\n",
                  f.is_new ? "new:  " : "known:", output_.findings().c_str(), f.name.c_str(),
                  static_cast<unsigned long long>(f.operations),
                  f.reproduced == kReplays ? "" : ", does not always reproduce");
      std::fflush(stdout);
    }
  }

  std::uint64_t new_findings() {
    return static_cast<std::uint64_t>(
        std::count_if(triage().findings().begin(), triage().findings().end(),
                      [](const FindingRecord& f) { return f.is_new; }));
  }

  Moment moment() {
    Moment m;
    m.seconds = now();
    std::vector<bool> seen(kStateCounters);
    for (Worker& w : workers_) {
      const WorkerStats& s = w.stats();
      m.execs += s.execs;
      m.ops += s.ops;
      m.checks += s.checks;
      m.edges = std::max(m.edges, w.edges());
      for (std::uint32_t i = 0; i < kStateCounters; ++i) {
        if (s.hits[i]) seen[i] = true;
      }
    }
    m.mmu_states = static_cast<std::uint64_t>(std::count(seen.begin(), seen.end(), true));
    m.unicorn_checks = referee_.counts().unicorn_checks + triage().unicorn_checks();
    m.corpus = count_files(first_corpus());
    if (fleet_.joined()) m.taken = fleet_.origins().all_taken();
    m.divergences = triage().findings().size();
    m.new_divergences = new_findings();
    return m;
  }

  void show(bool terminal) {
    const Moment m = moment();
    const std::string line = progress_line(m, shown_, triage().waiting());
    std::fprintf(stderr, terminal ? "\r%s\033[K" : "%s\n", line.c_str());
    std::fflush(stderr);
    shown_ = m;
  }

  // Workers first; then what they left is triaged, within bounds.
  void finish() {
    total_ = moment();
    for (Worker& w : workers_) w.ask_to_stop();
    for (Worker& w : workers_) w.stop(3);
    referee_.stop();
    tell_of_fleet(fleet_.finish());
    const bool hasty = interrupted();
    forget_interrupt();  // a second interrupt ends the triage
    triage().hurry();
    const double end = now() + (hasty ? kWrapUpInterrupted : kWrapUp);
    if (triage().error().empty()) {
      for (const std::string& path : list_candidates(output_.candidates()))
        triage().add({path, false, {}, {}, {}});
    }
    while (!triage().idle() && !interrupted() && now() < end && triage().error().empty()) {
      tend_triage();
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    if (!triage().idle()) {
      remark(std::to_string(triage().waiting()) + " candidates are left in " +
             output_.candidates());
    }
    triage().stop();
  }

  std::string report() {
    RunRecord run;
    run.options = options_;
    run.total = total_;
    run.total.divergences = triage().findings().size();
    run.total.new_divergences = new_findings();
    run.total.unicorn_checks = referee_.counts().unicorn_checks + triage().unicorn_checks();
    run.moments = moments_;
    run.findings = triage().findings();
    run.workers = static_cast<unsigned>(workers_.size());
    run.unicorn_version = referee_.counts().version;
    if (fleet_.joined()) remark("fleet: " + fleet_.name() + " has " + to_text(fleet_.origins()));
    run.remarks = remarks_;
    if (fleet_.joined()) {
      run.fleet = FleetRecord{fleet_.name(), fleet_.origins()};
      run.total.taken = fleet_.origins().all_taken();
      run.total.corpus = count_files(first_corpus());
    }
    if (referee_.counts().deaths) {
      run.remarks.push_back("Unicorn's process died " + std::to_string(referee_.counts().deaths) +
                            " times");
    }
    run.states.assign(kStateCounters, 0);
    for (const Worker& w : workers_) {
      for (std::uint32_t i = 0; i < kStateCounters; ++i) run.states[i] += w.stats().hits[i];
    }
    std::string why = write_atomically(output_.summary(), to_json(run));
    if (why.empty() && options_.write_report) why = options_.write_report(run, output_);
    if (!why.empty()) return why;
    std::printf("%s\n%s\n", progress_line(run.total, Moment{}, 0).c_str(),
                output_.report().c_str());
    std::fflush(stdout);
    return {};
  }

  const FuzzOptions& options_;
  Programs programs_;
  std::optional<Config> config_;
  Output output_;
  Fleet fleet_;
  std::string corpus_;
  std::list<Worker> workers_;
  std::list<Triage> triage_;  // one, once it is planned
  Referee referee_;
  Clock::time_point begin_ = Clock::now();
  std::vector<Moment> moments_;
  Moment shown_, total_;
  std::vector<std::string> remarks_;
  std::size_t announced_ = 0;
  bool told_ = false, told_of_fleet_ = false;
};

}  // namespace

int run_fuzz(const FuzzOptions& options) {
  const Interrupts handlers;
  return Run(options).run();
}

}  // namespace twinwalk::fuzz
