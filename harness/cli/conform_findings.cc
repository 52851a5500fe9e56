#include "harness/cli/conform_findings.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "harness/checker.h"
#include "harness/cli/subjects.h"
#include "harness/fuzzing/interrupts.h"
#include "harness/fuzzing/triage.h"
#include "harness/minimise.h"

namespace twinwalk::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kMostRuns = 600;  // a run elsewhere takes milliseconds, or a boot

// The first divergence that is not known; its class is kNone if there is none.
struct First {
  DivergenceClass cls = DivergenceClass::kNone;
  std::string got, allowed, rule;
};
First first_divergence(Checker& checker, const Trace& trace) {
  First first;
  checker.check(trace, [&](const CheckEvent& event) {
    const Verdict& v = event.verdict;
    if (v.kind != VerdictKind::kDiverge || event.known || first.cls != DivergenceClass::kNone)
      return;
    first = {v.divergence, v.got, v.allowed, v.rule != nullptr ? std::string(v.rule->id) : ""};
  });
  return first;
}

ConformFinding as_it_was(std::string cls, const ConformTrace& failed) {
  ConformFinding finding;
  finding.cls = std::move(cls), finding.case_name = failed.name, finding.trace = failed.trace;
  return finding;
}

ConformFinding smallest(Checker& checker, const ConformTrace& failed, const First& first,
                        Clock::time_point until) {
  if (first.cls == DivergenceClass::kNone) {  // it was seen once, and not again
    ConformFinding gone = as_it_was("not-reproduced", failed);
    gone.replays = 1;
    return gone;
  }
  ConformFinding finding = as_it_was(std::string(name_of(first.cls)), failed);
  const auto shows = [&](const Trace& trace) {
    return first_divergence(checker, trace).cls == first.cls;
  };
  MinimiseOptions options;
  options.max_runs = kMostRuns;
  options.stop = [until] { return fuzz::interrupted() || Clock::now() >= until; };
  const Minimised result = minimise(failed.trace, shows, options);
  if (result.reproduced) finding.trace = result.trace;
  const First last = first_divergence(checker, finding.trace);
  finding.got = last.got, finding.allowed = last.allowed, finding.rule = last.rule;
  for (; finding.replays < fuzz::kReplays && !fuzz::interrupted(); ++finding.replays)
    finding.reproduced += shows(finding.trace) ? 1 : 0;
  return finding;
}

}  // namespace

std::vector<ConformFinding> find_smallest(Subject& subject, std::span<const ConformLine> lines,
                                          double seconds) {
  std::vector<ConformFinding> findings;
  Checker checker(subject);
  accept_host_deviations(checker);
  const auto until = Clock::now() + std::chrono::milliseconds(static_cast<long>(seconds * 1000));
  for (const ConformLine& line : lines) {
    std::vector<DivergenceClass> seen;
    for (const ConformTrace& failed : line.failed) {
      ConformFinding finding;
      if (fuzz::interrupted()) {
        finding = as_it_was("not-replayed", failed);
      } else {
        const First first = first_divergence(checker, failed.trace);
        const bool again = std::find(seen.begin(), seen.end(), first.cls) != seen.end();
        if (again) continue;
        seen.push_back(first.cls);
        finding = smallest(checker, failed, first, until);
      }
      finding.feature = line.feature, finding.mode = line.mode;
      findings.push_back(std::move(finding));
    }
  }
  return findings;
}

std::string to_json(const ConformFinding& finding, const SubjectInfo& info, const std::string& host,
                    const std::string& file) {
  nlohmann::ordered_json json;
  json["finding"] = file;
  json["class"] = finding.cls;
  json["subject"] = info.name;
  json["host"] = host;
  json["mode"] = finding.mode;
  json["feature"] = finding.feature;
  json["case"] = finding.case_name;
  json["got"] = finding.got;
  json["allowed"] = finding.allowed;
  json["rule"] = finding.rule;
  json["reproduced"] = finding.reproduced;
  json["replays"] = finding.replays;
  return json.dump();
}

}  // namespace twinwalk::cli
