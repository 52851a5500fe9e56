#include "harness/cli/host_worker.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <exception>
#include <thread>
#include <utility>

#include "harness/cli/subjects.h"
#include "harness/cli/trace_run.h"
#include "harness/finding.h"
#include "harness/fuzzing/atomic_file.h"
#include "harness/fuzzing/candidate_store.h"
#include "harness/fuzzing/finding_file.h"
#include "harness/minimise.h"
#include "harness/trace/binary.h"
#include "harness/trace/schema.h"
#include "kvm_runner/conform.h"
#include "kvm_runner/known.h"
#include "kvm_runner/remote/seen_map.h"

namespace twinwalk::cli {
namespace {

using Clock = std::chrono::steady_clock;

// For one finding: a run there takes some milliseconds.
constexpr std::uint64_t kMostRuns = 500, kMostTrades = 150;
constexpr const char* kTrail = "-trail";              // of a name
constexpr auto kMostTime = std::chrono::seconds(30);  // and a death of the host a second

// "missed-fault-1f3a9c04". A real KVM has many deviations at once, and one must not hide the others
// of its class: so the rule that is broken counts, too, and the paging mode in which.
std::string finding_name(const Checker& checker, const SubjectInfo& subject,
                         const CheckResult& result) {
  const Verdict verdict;
  const std::string mode =
      result.step < checker.program().steps.size()
          ? fact_of({subject, checker.program(), checker.outcomes(), result.step, verdict}, "mode")
          : "";
  const std::string all =
      fmt::format("{} {} {}", name_of(finding_of(result, result.profile)), result.rule, mode);
  return fmt::format("{}-{}", name_of(result.divergence), fuzz::hex8(fuzz::hash_bytes(all)));
}

class HostTarget final : public fuzz::BatchTarget {
 public:
  explicit HostTarget(remote::RemoteSubject& subject) : subject_(subject) {}
  Subject& subject() override { return subject_; }
  void prefetch(std::vector<Program> programs) override { subject_.prefetch(std::move(programs)); }
  void append_reached(std::vector<fuzz::ReachedState>& out) override {
    seen_.clear();
    remote::read_seen(subject_.last().seen, seen_);
    for (const remote::Seen& s : seen_) out.push_back({s.slot, s.bits});
  }

 private:
  remote::RemoteSubject& subject_;
  std::vector<remote::Seen> seen_;
};

// The most physical-address bits of a machine that the subject's host can be.
std::uint8_t widest_machine(Subject& subject) {
  Trace trace;
  trace.ops.push_back(make_op(Verb::kGet));
  fit_to_host(trace, subject.info());
  Lowering lowering;
  Program program;
  OutcomeStream out;
  constexpr std::uint8_t kWidths[] = {52, 48, 46, 43, 40, 39};
  for (const std::uint8_t bits : kWidths) {
    trace.machine.maxphyaddr = bits;
    reconcile(trace.machine);
    lowering.lower(trace, program);
    subject.run(program, out);
    if (!out.steps.empty() && out.steps.front().kind != OutcomeKind::kSkip) return bits;
  }
  return 36;
}

class Worker {
 public:
  Worker(HostFuzzing& all, std::unique_ptr<remote::RemoteSubject> subject, unsigned number)
      : all_(all), subject_(std::move(subject)), target_(*subject_), checker_(*subject_) {
    accept_host_deviations(checker_);
    plan_.config = all.config;
    plan_.seed = number + 1;
    plan_.name = [this](const Checker& checker, const CheckResult& result) {
      return name_of_result(checker, result);
    };
    plan_.line = [this](const Checker&, const CheckEvent& event) { return line_of(event); };
    const std::uint8_t widest = widest_machine(*subject_);
    plan_.fit = [this, widest](Trace& trace) {
      Machine& machine = trace.machine;
      machine.maxphyaddr = std::min(machine.maxphyaddr, widest);
      machine.vendor = Vendor::kIntel;  // none in particular
      fit_to_host(trace, subject_->info());
    };
  }

  void run() {
    fuzz::BatchFuzzer fuzzer(plan_, target_, checker_, all_.population);
    std::vector<fuzz::Diverged> diverged;
    while (!all_.stop) {
      diverged.clear();
      subject_->link().share_setup(true);
      const fuzz::BatchCounts counts =
          fuzzer.round(diverged, [this](const Trace& trace) { keep_input(trace); });
      all_.execs += counts.execs;
      all_.ops += counts.ops;
      all_.checks += counts.checks;
      all_.skipped += counts.skipped;
      all_.known += counts.known;
      subject_->prefetch({});
      subject_->link().share_setup(false);
      for (const fuzz::Diverged& d : diverged) take_in(d);
      make_one_smaller();
    }
    while (!waiting_.empty()) make_next_smaller();
  }

 private:
  void fail(const std::string& why) {
    if (why.empty()) return;
    const std::lock_guard lock(all_.mutex);
    if (all_.error.empty()) all_.error = why;
    all_.stop = true;
  }

  void keep_input(const Trace& trace) {
    bytes_.clear();
    encode_raw(trace, bytes_);
    fail(fuzz::write_atomically(
        fmt::format("{}/{}", all_.corpus, fuzz::hex8(fuzz::hash_bytes(bytes_))), bytes_));
  }

  void count_hit(std::size_t index) {
    if (index < all_.findings.size()) ++all_.findings[index].hits;
  }

  // False if somebody has found that already; counts it then.
  bool claim(const std::string& name) {
    const std::lock_guard lock(all_.mutex);
    const auto [at, is_new] = all_.by_name.emplace(name, HostFuzzing::kPending);
    if (!is_new) count_hit(at->second);
    return is_new;
  }

  ResultLine line_of(const CheckEvent& event) {
    ResultLine line = fuzz::line_of(event, info_on(*subject_, checker_.program().machine));
    line.got = got_of(event, checker_.outcomes());
    return line;
  }

  // Checks, and the line of the first divergence.
  CheckResult look(const Trace& trace, ResultLine& line) {
    bool have = false;
    before_.clear();
    return checker_.check(trace, [&](const CheckEvent& event) {
      if (have || event.verdict.kind != VerdictKind::kDiverge) return;
      if (event.known) {
        before_ = event.known_id;
        return;
      }
      have = true;
      line = line_of(event);
    });
  }

  // Whether it may be but what a known deviation before it has left behind. What the host itself
  // complains of is no such thing.
  static bool may_be_trail(const CheckResult& result) {
    return result.known_before != 0 && result.divergence != DivergenceClass::kTrap &&
           result.divergence != DivergenceClass::kLiveness;
  }
  // One that comes after a known deviation must not hide one that does not.
  std::string name_of_result(const Checker& checker, const CheckResult& result) {
    return finding_name(checker, subject_->info(), result) + (may_be_trail(result) ? kTrail : "");
  }

  struct Waiting {
    std::string name;
    Trace trace;
    ResultLine line;
    DivergenceClass divergence;  // kNone: a second run did not show it
  };

  // On disk at once. Smaller it is made later: what is not found yet comes first.
  void take_in(const fuzz::Diverged& diverged) {
    Waiting w{diverged.name, diverged.trace, diverged.line, diverged.result.divergence};
    if (!claim(w.name)) return;
    ++all_.waiting;
    ResultLine line;
    if (look(w.trace, line).divergence == w.divergence) {
      w.line = line;
    } else {
      if (w.divergence == DivergenceClass::kLiveness) {  // a slow machine hangs, too, but once only
        --all_.waiting;
        const std::lock_guard lock(all_.mutex);
        all_.by_name.erase(w.name);
        return;
      }
      w.line.got += " (once: not in a VM of its own)";
      w.divergence = DivergenceClass::kNone;
    }
    fail(fuzz::write_finding(all_.output, w.name, w.trace, w.line));
    waiting_.push_back(std::move(w));
  }

  // If it has not had its share of the time.
  void make_one_smaller() {
    const double now = all_.now();
    if (waiting_.empty() || all_.stop || spent_ > kShareOfSmaller * now) return;
    make_next_smaller();
    spent_ += all_.now() - now;
  }

  void make_next_smaller() {
    Waiting w = std::move(waiting_.front());
    waiting_.pop_front();
    std::string name = w.name, known;
    unsigned reproduced = 0;
    if (w.divergence != DivergenceClass::kNone) {
      w.trace = make_smaller(w.trace, w.divergence);
      ResultLine line;
      for (unsigned i = 0; i < fuzz::kReplays; ++i) {
        const CheckResult seen = look(w.trace, line);
        if (seen.divergence != w.divergence) continue;
        ++reproduced;
        w.line = line;
        name = name_of_result(checker_, seen);
        known = may_be_trail(seen) ? before_ : "";
      }
      if (!known.empty()) {
        fuzz::remove_finding(all_.output, w.name);
        return record_trail(w.name, name, known);
      }
      fail(fuzz::write_finding(all_.output, name, w.trace, w.line));
      if (name != w.name) fuzz::remove_finding(all_.output, w.name);
    }
    record(w.name, name, w.trace.ops.size(), reproduced);
    --all_.waiting;
  }

  void record_trail(const std::string& before, const std::string& name, const std::string& known) {
    const std::lock_guard lock(all_.mutex);
    all_.by_name[before] = HostFuzzing::kBehind;
    if (all_.by_name.insert_or_assign(name, HostFuzzing::kBehind).second || name == before)
      all_.behind_known.push_back(fmt::format("{} behind {}", name, known));
    --all_.waiting;
  }

  // What is smaller only where programs share a VM is made smaller once more where they do not.
  Trace make_smaller(const Trace& trace, DivergenceClass wanted) {
    subject_->link().share_setup(true);
    Trace small = smaller(trace, wanted);
    subject_->link().share_setup(false);
    return checker_.check(small).divergence == wanted ? small : smaller(trace, wanted);
  }

  Trace smaller(const Trace& trace, DivergenceClass wanted) {
    MinimiseOptions options;
    options.max_runs = kMostRuns;
    options.max_trades = kMostTrades;
    const auto until = Clock::now() + kMostTime;
    options.stop = [this, until] { return all_.hurry || Clock::now() >= until; };
    const Minimised small = minimise(checker_, trace, wanted, options);
    return small.reproduced ? small.trace : trace;
  }

  void record(const std::string& before, const std::string& name, std::uint64_t operations,
              unsigned reproduced) {
    const std::lock_guard lock(all_.mutex);
    const auto same = all_.by_name.find(name);
    if (name != before && same != all_.by_name.end()) {  // smaller it is another's finding
      all_.by_name[before] = same->second;
      count_hit(same->second);
      return;
    }
    all_.by_name[before] = all_.by_name[name] = all_.findings.size();
    fuzz::FindingRecord record;
    record.name = name;
    record.operations = operations;
    record.reproduced = reproduced;
    record.reproduces = reproduced != 0;
    record.seconds = all_.now();
    all_.findings.push_back(record);
    fmt::print("new:   {}/{}.walk ({} operations{})\n", all_.output.findings(), name, operations,
               reproduced == fuzz::kReplays
                   ? ""
                   : fmt::format(", reproduced {} of {} times", reproduced, fuzz::kReplays));
    std::fflush(stdout);
  }

  static constexpr double kShareOfSmaller = 0.3;

  HostFuzzing& all_;
  std::unique_ptr<remote::RemoteSubject> subject_;
  HostTarget target_;
  Checker checker_;
  fuzz::BatchPlan plan_;
  std::deque<Waiting> waiting_;
  std::string before_;  // id of the last known deviation before what look() has seen
  double spent_ = 0;    // seconds, on making findings smaller
  std::vector<std::uint8_t> bytes_;
};

}  // namespace

void work_on_host(HostFuzzing& all, unsigned number) {
  std::unique_lock lock(all.mutex);
  try {
    std::string why;
    // One after the other: the first one makes the state from which the others start.
    std::unique_ptr<remote::RemoteSubject> subject;
    if (!all.stop) subject = hosts::start_variant(*all.variant, why, true);
    if (subject == nullptr) {
      if (all.error.empty()) all.error = why;
      all.stop = true;
      return;
    }
    const SubjectInfo& info = subject->info();
    all.subject = info.name + " " + info.version;
    lock.unlock();
    Worker worker(all, std::move(subject), number);
    lock.lock();
    ++all.ready;
    lock.unlock();
    while (!all.go && !all.stop) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    worker.run();
  } catch (const std::exception& error) {
    if (!lock.owns_lock()) lock.lock();
    if (all.error.empty()) all.error = error.what();
    all.stop = true;
  }
}

}  // namespace twinwalk::cli
