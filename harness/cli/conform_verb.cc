#include "harness/cli/conform_verb.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <vector>

#include "harness/checker.h"
#include "harness/cli/input.h"
#include "harness/cli/output.h"
#include "harness/cli/subjects.h"
#include "kvm_runner/conform.h"

namespace twinwalk::cli {
namespace {

void refuse_what_is_not_there(const ConformOptions& options) {
  static constexpr std::string_view kLater[] = {"qemu-svm", "bochs-vmx", "vmx-kvm"};
  if (std::find(std::begin(kLater), std::end(kLater), options.host) != std::end(kLater)) {
    throw Failure(fmt::format("--host {}: not available in this version", options.host));
  }
  if (options.host != "local") {
    throw Failure(fmt::format("--host: found `{}`; allowed: local", options.host));
  }
  if (options.mode != name_of(Mode::k4Level)) {
    throw Failure(
        fmt::format("--mode: found `{}`; allowed: {}", options.mode, name_of(Mode::k4Level)));
  }
  if (options.reload_module) throw Failure("--reload-module: not available in this version");
}

// Tells of the first divergence, accepted one or skipped step, in that order of weight.
CaseVerdict judge(const Trace& trace, Subject& subject) {
  Checker checker(subject);
  accept_host_deviations(checker);
  std::string diverged, accepted, skipped;
  const CheckResult result = checker.check(trace, [&](const CheckEvent& event) {
    const bool skip = event.verdict.kind == VerdictKind::kSkip;
    if (!skip && event.verdict.kind != VerdictKind::kDiverge) return;
    std::string& slot = skip ? skipped : event.known ? accepted : diverged;
    if (!slot.empty()) return;
    slot = skip ? event.verdict.got
                : fmt::format("{}: got {}; allowed: {}", name_of(event.verdict.divergence),
                              event.verdict.got, event.verdict.allowed);
    if (event.known) slot = fmt::format("{}: {}", event.known_id, slot);
  });
  CaseVerdict verdict;
  verdict.checks = result.checks;
  verdict.diverge = result.diverge;
  verdict.known = result.known;
  verdict.skip = result.executed ? result.skip : 1;
  if (!result.executed) skipped = "requires " + trace.requires_line;
  verdict.why = !diverged.empty() ? diverged : !accepted.empty() ? accepted : skipped;
  return verdict;
}

// The column of a subject that this machine cannot run: skipped, never a pass.
std::vector<ConformLine> skipped_column(const ConformOptions& options, const std::string& subject,
                                        const std::string& why) {
  std::vector<ConformLine> lines;
  for (const ConformFeature& feature : conform_features(Mode::k4Level)) {
    ConformLine line;
    line.feature = feature.name;
    line.subject = subject;
    line.host = options.host;
    line.mode = options.mode;
    line.result = ConformResult::kSkip;
    line.why = why;
    lines.push_back(std::move(line));
  }
  return lines;
}

void write_results(const std::string& folder, const std::vector<ConformLine>& lines) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw Failure(fmt::format("{}: {}", folder, error.message()));
  std::string json;
  for (const ConformLine& line : lines) {
    json += to_json(line) + "\n";
    for (const ConformCase& failed : line.failed) {
      write_file(fmt::format("{}/{}-{}-{}.walk", folder, line.subject, line.feature, failed.name),
                 failed.text);
    }
  }
  write_file(folder + "/conform.jsonl", json);
  write_file(folder + "/matrix.txt", conform_matrix(lines));
}

}  // namespace

int conform(const ConformOptions& options) {
  refuse_what_is_not_there(options);
  std::vector<std::string> subjects = {"core", "core-kvm", "kvm"};
  if (!options.subject.empty()) subjects = {options.subject};

  std::vector<ConformLine> lines;
  const auto on_line = [&](const ConformLine& line) {
    if (options.json) print("{}\n", to_json(line));
  };
  for (const std::string& word : subjects) {
    const NamedSubject named = make_subject(word);
    std::vector<ConformLine> column;
    if (named.subject != nullptr) {
      column = twinwalk::conform(*named.subject, options.host, Mode::k4Level, judge, on_line);
    } else {
      column = skipped_column(options, word, named.why_not);
      for (const ConformLine& line : column) on_line(line);
    }
    lines.insert(lines.end(), column.begin(), column.end());
  }
  if (!options.json) write_out(conform_matrix(lines));
  if (!options.out.empty()) write_results(options.out, lines);
  const bool failed = std::any_of(lines.begin(), lines.end(), [](const ConformLine& line) {
    return line.result == ConformResult::kFail;
  });
  return failed ? kExitFound : kExitGood;
}

}  // namespace twinwalk::cli
