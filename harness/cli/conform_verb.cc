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

constexpr Mode kModes[] = {Mode::kNone, Mode::k32Bit, Mode::kPae, Mode::k4Level, Mode::k5Level};

std::vector<Mode> modes_of(const ConformOptions& options) {
  std::vector<Mode> modes;
  std::string allowed;
  for (const Mode mode : kModes) {
    if (conform_features(mode).empty()) continue;
    allowed += fmt::format("{}{}", allowed.empty() ? "" : ", ", name_of(mode));
    if (options.mode.empty() || options.mode == name_of(mode)) modes.push_back(mode);
  }
  if (modes.empty())
    throw Failure(fmt::format("--mode: found `{}`; allowed: {}", options.mode, allowed));
  return modes;
}

// The subjects that are asked for, each a column of the matrix a mode.
std::vector<SubjectWords> columns_of(const ConformOptions& options) {
  std::vector<SubjectWords> columns;
  if (options.host == "local") {
    for (const char* word : {"core", "core-kvm", "kvm"}) {
      if (options.subject.empty() || options.subject == word) columns.push_back({word, "local"});
    }
    if (columns.empty()) columns.push_back({options.subject, "local"});  // a word to be refused
    return columns;
  }
  for (const hosts::HostVariant* variant : variants_of(options.host, options.subject))
    columns.push_back({std::string(variant->subject), label_of(*variant)});
  return columns;
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

// The column of a subject that cannot be run here: skipped, never a pass.
std::vector<ConformLine> skipped_column(const SubjectWords& words, Mode mode,
                                        const std::string& why) {
  std::vector<ConformLine> lines;
  for (const ConformFeature& feature : conform_features(mode)) {
    ConformLine line;
    line.feature = feature.name;
    line.subject = words.subject;
    line.host = words.host;
    line.mode = name_of(mode);
    line.result = ConformResult::kSkip;
    line.why = why;
    lines.push_back(std::move(line));
  }
  return lines;
}

// Everything that will be asked of a subject elsewhere, which does it faster at once.
void prefetch(remote::RemoteSubject& subject, std::span<const Mode> modes) {
  std::vector<Program> programs;
  Lowering lowering;
  for (const Mode mode : modes) {
    for (const Trace& trace : conform_traces(mode, subject.info())) {
      if (requirements_hold(trace)) lowering.lower(trace, programs.emplace_back());
    }
  }
  subject.prefetch(std::move(programs));
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
  if (options.reload_module) throw Failure("--reload-module: not available in this version");
  const std::vector<Mode> modes = modes_of(options);
  std::vector<ConformLine> lines;
  const auto on_line = [&](const ConformLine& line) {
    if (options.json) print("{}\n", to_json(line));
  };
  for (const SubjectWords& words : columns_of(options)) {
    const NamedSubject named = make_subject(words);
    if (auto* elsewhere = dynamic_cast<remote::RemoteSubject*>(named.subject.get()))
      prefetch(*elsewhere, modes);
    for (const Mode mode : modes) {
      std::vector<ConformLine> column;
      if (named.subject != nullptr) {
        column = twinwalk::conform(*named.subject, words.host, mode, judge, on_line);
      } else {
        column = skipped_column(words, mode, named.why_not);
        for (const ConformLine& line : column) on_line(line);
      }
      lines.insert(lines.end(), column.begin(), column.end());
    }
  }
  if (!options.json) write_out(conform_matrix(lines));
  if (!options.out.empty()) write_results(options.out, lines);
  const bool failed = std::any_of(lines.begin(), lines.end(), [](const ConformLine& line) {
    return line.result == ConformResult::kFail;
  });
  return failed ? kExitFound : kExitGood;
}

}  // namespace twinwalk::cli
