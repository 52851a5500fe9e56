#include "harness/cli/run.h"

#include <fmt/format.h>

#include <string_view>

#include "harness/checker.h"
#include "harness/cli/input.h"
#include "harness/cli/output.h"
#include "harness/cli/subjects.h"
#include "harness/cli/trace_run.h"
#include "harness/trace/result_line.h"
#include "kvm_runner/conform.h"

namespace twinwalk::cli {
namespace {

Tone tone_of(VerdictKind kind) {
  switch (kind) {
    case VerdictKind::kAgree:
      return Tone::kGood;
    case VerdictKind::kDiverge:
      return Tone::kBad;
    case VerdictKind::kSkip:
      return Tone::kDim;
    case VerdictKind::kUnspecified:
      return Tone::kNote;
  }
  return Tone::kPlain;
}

// For people: where in the file, what, and by which rule.
void print_event(const NamedTrace& named, const ResultLine& line, const CheckEvent& event) {
  const std::uint32_t at = named.trace.ops[event.op].line;
  const std::string place = at != 0 ? fmt::format("{}:{}", named.path, at)
                                    : fmt::format("{}, operation {}", named.path, event.op);
  std::string text = fmt::format("{}: {}: {} ", place, line.verb,
                                 paint(tone_of(event.verdict.kind), line.verdict));
  if (event.known) text += fmt::format("(known: {}) ", event.known_id);
  if (!line.cls.empty()) text += fmt::format("{} in {}: ", line.cls, line.field);
  text += line.got;
  if (!line.allowed.empty()) text += fmt::format("; allowed: {}", line.allowed);
  if (!line.rule.empty()) text += fmt::format(" [{}]", line.rule);
  print("{}\n", text);
}

class Replay {
 public:
  Replay(const RunOptions& options, Checker& checker) : options_(options), checker_(checker) {}

  void one(const NamedTrace& named) {
    const CheckResult result =
        checker_.check(named.trace, [&](const CheckEvent& event) { report(named, event); });
    if (!result.executed) not_executed(named);
    if (!result.complaint.empty())
      fmt::print(stderr, "twinwalk: {}: {}\n", named.path, result.complaint);
    add(summary_, named.trace, result);
    known_ += result.known;
    unicorn_died_ += result.unicorn_died ? 1 : 0;
  }

  int finish() const {
    if (options_.json) {
      print("{}\n", to_json(summary_));
    } else {
      print(
          "{} traces, {} operations, {} checks: {} agree, {} diverge, {} skip, {} unspecified; {} "
          "by unicorn\n",
          summary_.traces, summary_.ops, summary_.checks, summary_.agree, summary_.diverge,
          summary_.skip, summary_.unspecified, summary_.unicorn_checks);
      if (known_ != 0)
        print("{} known divergences, of the host or accepted by their traces\n", known_);
    }
    if (unicorn_died_ != 0) {
      fmt::print(stderr, "twinwalk: unicorn died or hung in {} traces and was restarted\n",
                 unicorn_died_);
    }
    return summary_.diverge == 0 ? kExitGood : kExitFound;
  }

 private:
  void report(const NamedTrace& named, const CheckEvent& event) {
    const ResultLine line = line_of(named.path, info_on(checker_.subject(), named.trace.machine),
                                    named.trace, event, checker_.outcomes());
    if (!options_.json) {
      print_event(named, line, event);
    } else if (!event.known) {
      print("{}\n", to_json(line));
    }
  }

  void not_executed(const NamedTrace& named) {
    ++summary_.skip;
    ResultLine line;
    line.trace = named.path;
    line.subject = checker_.subject().info().name;
    line.profile = name_of(checker_.subject().profile_for(named.trace.machine));
    line.verdict = name_of(VerdictKind::kSkip);
    line.got = "requires " + named.trace.requires_line;
    if (options_.json) {
      print("{}\n", to_json(line));
    } else {
      print("{}: {}: its machine lacks what it {}\n", named.path, paint(Tone::kDim, "skip"),
            line.got);
    }
  }

  const RunOptions& options_;
  Checker& checker_;
  RunSummary summary_;
  std::uint64_t known_ = 0, unicorn_died_ = 0;
};

// What a machine cannot run is skipped, with the reason, and never a pass.
int skip_all(const RunOptions& options, const std::vector<NamedTrace>& traces,
             const std::string& why) {
  RunSummary summary;
  for (const NamedTrace& named : traces) {
    ++summary.traces;
    summary.ops += named.trace.ops.size();
    ++summary.skip;
    ResultLine line;
    line.trace = named.path;
    line.subject = options.under_test.subject;
    line.verdict = name_of(VerdictKind::kSkip);
    line.got = why;
    if (options.json) print("{}\n", to_json(line));
  }
  if (options.json) {
    print("{}\n", to_json(summary));
  } else {
    print("{} traces skipped: subject {}: {}\n", summary.traces, options.under_test.subject, why);
  }
  return kExitGood;
}

// A subject elsewhere runs them faster at once.
void prefetch(Subject& subject, const std::vector<NamedTrace>& traces) {
  auto* elsewhere = dynamic_cast<remote::RemoteSubject*>(&subject);
  if (elsewhere == nullptr) return;
  std::vector<const Trace*> all;
  all.reserve(traces.size());
  for (const NamedTrace& named : traces) all.push_back(&named.trace);
  elsewhere->prefetch(lower_all(all));
}

}  // namespace

int run(const RunOptions& options) {
  const References references = parse_references(options.references);
  const NamedSubject named = make_subject(options.under_test);
  auto traces = load_traces(options.paths, options.reading);
  if (named.subject == nullptr) return skip_all(options, traces, named.why_not);
  if (options.fit) {
    for (NamedTrace& trace : traces) fit_to_host(trace.trace, named.subject->info());
  }
  const auto unicorn = start_unicorn(references);
  Checker checker(*named.subject, unicorn.get());
  accept_host_deviations(checker);
  Replay replay(options, checker);
  prefetch(*named.subject, traces);
  for (const NamedTrace& trace : traces) replay.one(trace);
  return replay.finish();
}

}  // namespace twinwalk::cli
