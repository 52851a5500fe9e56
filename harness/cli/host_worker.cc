#include "harness/cli/host_worker.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <thread>
#include <utility>

#include "harness/cli/subjects.h"
#include "harness/fuzzing/atomic_file.h"
#include "harness/fuzzing/candidate_store.h"
#include "harness/fuzzing/finding_file.h"
#include "harness/minimise.h"
#include "harness/trace/binary.h"
#include "harness/trace/schema.h"
#include "kvm_runner/conform.h"
#include "kvm_runner/remote/seen_map.h"

namespace twinwalk::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kMostRuns = 1200;  // for one finding; a run there takes some milliseconds
constexpr auto kMostTime = std::chrono::seconds(30);  // and a death of the host a second

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
      const fuzz::BatchCounts counts =
          fuzzer.round(diverged, [this](const Trace& trace) { keep_input(trace); });
      all_.execs += counts.execs;
      all_.ops += counts.ops;
      all_.checks += counts.checks;
      all_.skipped += counts.skipped;
      all_.known += counts.known;
      subject_->prefetch({});
      for (const fuzz::Diverged& d : diverged) examine(d);
    }
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

  // False if somebody has found that already; counts it then.
  bool claim(const std::string& name) {
    const std::lock_guard lock(all_.mutex);
    const auto [at, is_new] = all_.by_name.emplace(name, HostFuzzing::kPending);
    if (!is_new && at->second != HostFuzzing::kPending) ++all_.findings[at->second].hits;
    return is_new;
  }

  // Checks, and the line of the first divergence. A complaint comes with what the host said.
  CheckResult look(const Trace& trace, ResultLine& line) {
    bool have = false;
    return checker_.check(trace, [&](const CheckEvent& event) {
      if (have || event.known || event.verdict.kind != VerdictKind::kDiverge) return;
      have = true;
      line = fuzz::line_of(event, info_on(*subject_, trace.machine));
      const std::string& text = checker_.outcomes().complaint_text;
      if (event.got.complaint != Complaint::kNone && !text.empty()) line.got += ": " + text;
    });
  }

  // On disk at once; then smaller, and replayed.
  void examine(const fuzz::Diverged& diverged) {
    const std::string before = name_of(diverged.finding);
    if (!claim(before)) return;
    ++all_.minimising;
    ResultLine line;
    CheckResult seen = look(diverged.trace, line);
    const bool again = seen.divergence == diverged.finding.divergence;
    if (!again) {
      line.verdict = name_of(VerdictKind::kDiverge);
      line.cls = name_of(diverged.finding.divergence);
      line.field = diverged.finding.field;
      line.subject = subject_->info().name;
      line.got = "a divergence that a second run did not show";
    }
    fail(fuzz::write_finding(all_.output, before, diverged.trace, line));
    Minimised small;
    small.trace = diverged.trace;
    unsigned reproduced = 0;
    std::string name = before;
    if (again) {
      small = make_smaller(diverged.trace, seen.divergence);
      for (unsigned i = 0; i < fuzz::kReplays; ++i) {
        seen = look(small.trace, line);
        if (seen.divergence != diverged.finding.divergence) continue;
        ++reproduced;
        name = name_of(finding_of(seen, seen.profile));
      }
      fail(fuzz::write_finding(all_.output, name, small.trace, line));
      if (name != before) fuzz::remove_finding(all_.output, before);
    }
    record(before, name, small.trace.ops.size(), reproduced);
    --all_.minimising;
  }

  Minimised make_smaller(const Trace& trace, DivergenceClass wanted) {
    MinimiseOptions options;
    options.max_runs = kMostRuns;
    const auto until = Clock::now() + kMostTime;
    options.stop = [this, until] { return all_.hurry || Clock::now() >= until; };
    Minimised small = minimise(checker_, trace, wanted, options);
    if (!small.reproduced) small.trace = trace;
    return small;
  }

  void record(const std::string& before, const std::string& name, std::uint64_t operations,
              unsigned reproduced) {
    const std::lock_guard lock(all_.mutex);
    const auto same = all_.by_name.find(name);
    if (name != before && same != all_.by_name.end()) {  // smaller it is another's finding
      all_.by_name[before] = same->second;
      if (same->second != HostFuzzing::kPending) ++all_.findings[same->second].hits;
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

  HostFuzzing& all_;
  std::unique_ptr<remote::RemoteSubject> subject_;
  HostTarget target_;
  Checker checker_;
  fuzz::BatchPlan plan_;
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
