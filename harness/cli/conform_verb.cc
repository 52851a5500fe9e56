#include "harness/cli/conform_verb.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <span>
#include <string_view>
#include <thread>
#include <vector>

#include "harness/checker.h"
#include "harness/cli/conform_findings.h"
#include "harness/cli/in_turn.h"
#include "harness/cli/input.h"
#include "harness/cli/output.h"
#include "harness/cli/progress.h"
#include "harness/cli/subjects.h"
#include "harness/cli/trace_run.h"
#include "harness/fuzzing/atomic_file.h"
#include "harness/fuzzing/interrupts.h"
#include "harness/trace/print.h"
#include "harness/trace/serial_log.h"
#include "kvm_runner/conform.h"
#include "kvm_runner/hosts/local_module.h"
#include "reports/ci_formats.h"
#include "reports/html.h"
#include "reports/results.h"

namespace twinwalk::cli {
namespace {

constexpr const char* kInterrupted = "interrupted";
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

CaseVerdict not_run(std::string why) {
  CaseVerdict verdict;
  verdict.skip = 1;
  verdict.why = std::move(why);
  return verdict;
}

// Tells of the first divergence, accepted one or skipped step, in that order of weight. `hung`: a
// step did not come back in time.
CaseVerdict judge_once(const Trace& trace, Subject& subject, bool& hung) {
  const auto* const elsewhere = dynamic_cast<const remote::RemoteSubject*>(&subject);
  // What was answered elsewhere before an interrupt counts.
  if (elsewhere == nullptr && fuzz::interrupted()) return not_run(kInterrupted);
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
                              got_of(event, checker.outcomes()), event.verdict.allowed);
    if (event.known) slot = fmt::format("{}: {}", event.known_id, slot);
    hung |= !event.known && event.verdict.divergence == DivergenceClass::kLiveness;
  });
  if (elsewhere != nullptr && fuzz::interrupted() && !elsewhere->last().there)
    return not_run(kInterrupted);
  CaseVerdict verdict;
  verdict.checks = result.checks;
  verdict.diverge = result.diverge;
  verdict.known = result.known;
  verdict.skip = result.executed ? result.skip : 1;
  if (!result.executed) skipped = "requires " + trace.requires_line;
  verdict.why = !diverged.empty() ? diverged : !accepted.empty() ? accepted : skipped;
  return verdict;
}

// Of a hang a clock tells, and on a busy machine it errs: what the subject does comes again.
CaseVerdict judge(const Trace& trace, Subject& subject) {
  bool hung = false;
  const CaseVerdict verdict = judge_once(trace, subject, hung);
  return hung ? judge_once(trace, subject, hung) : verdict;
}

constexpr std::size_t kQuickCases = 6;  // a row, evenly spread
constexpr double kSearchSeconds = 60;   // for smaller traces, a column

// The suite on one subject and host.
class Column {
 public:
  Column(const ConformOptions& options, const SubjectWords& words, std::span<const Mode> modes)
      : options_(options), words_(words) {
    choice_.modes.assign(modes.begin(), modes.end());
    choice_.corpus = options.corpus;
    const bool slow = hosts::is_slow(words.host, words.subject);
    if (options.quick || (slow && !options.full)) choice_.most_cases = kQuickCases;
  }

  // Why it is not to be run at all; it is skipped then.
  void leave_out(const std::string& why) {
    SubjectInfo info;
    info.name = words_.subject;
    skip(info, why);
  }

  // Starts what is to run, and what is elsewhere runs all of it.
  void prepare() {
    named_ = make_subject(words_);
    if (named_.subject == nullptr) return;
    info_ = named_.subject->info();
    rows_ = conform_rows(choice_, info_);
    if (auto* elsewhere = dynamic_cast<remote::RemoteSubject*>(named_.subject.get()))
      prefetch(*elsewhere);
  }

  void finish() {
    if (named_.subject == nullptr) return leave_out(named_.why_not);
    lines_ = twinwalk::conform(*named_.subject, words_.host, rows_, judge,
                               [this](const ConformLine& line) { tell(line); });
    if (!options_.out.empty()) findings_ = find_smallest(*named_.subject, lines_, kSearchSeconds);
  }

  const std::vector<ConformLine>& lines() const { return lines_; }
  const std::vector<ConformFinding>& findings() const { return findings_; }
  const SubjectInfo& info() const { return info_; }
  const std::string& host() const { return words_.host; }

 private:
  // What cannot be run here is skipped, never a pass.
  void skip(const SubjectInfo& info, const std::string& why) {
    info_ = info;
    for (const ConformRow& row : conform_rows(choice_, info)) {
      ConformLine line;
      line.feature = row.feature;
      line.subject = words_.subject;
      line.host = words_.host;
      line.mode = row.mode;
      line.result = ConformResult::kSkip;
      line.why = why;
      tell(line);
      lines_.push_back(std::move(line));
    }
  }

  void tell(const ConformLine& line) const {
    if (options_.json) print("{}\n", to_json(line));
  }

  // Everything that will be asked of a subject elsewhere, which does it faster at once.
  void prefetch(remote::RemoteSubject& subject) const {
    std::vector<const Trace*> all;
    for (const ConformRow& row : rows_) {
      for (const ConformTrace& c : row.traces) all.push_back(&c.trace);
    }
    std::vector<Program> programs = lower_all(all);
    Progress progress(fmt::format("{} on {}", words_.subject, words_.host), programs.size());
    subject.link().on_progress([&progress](std::size_t done) { progress.reached(done); });
    subject.link().stop_when(fuzz::interrupted);
    subject.prefetch(std::move(programs));
    subject.link().on_progress({});
  }

  const ConformOptions& options_;
  SubjectWords words_;
  ConformChoice choice_;
  NamedSubject named_;
  SubjectInfo info_;
  std::vector<ConformRow> rows_;
  std::vector<ConformLine> lines_;
  std::vector<ConformFinding> findings_;
};

// {"stamp","subject","host"}: what a column ran on.
std::string stamp_of(const Column& column) {
  nlohmann::ordered_json json;
  json["stamp"] = column.info().version;
  json["subject"] = column.info().name;
  json["host"] = column.host();
  return json.dump();
}

// Findings are written at once, each as soon as its column is done.
void write_findings(const std::string& folder, const Column& column, std::string& json) {
  for (const ConformFinding& finding : column.findings()) {
    const std::string text = twinwalk::print(finding.trace);
    const std::string file = fmt::format("findings/{}-{}-{}-{:08x}.walk", finding.cls,
                                         column.info().name, finding.feature, crc32(text));
    write_file(fmt::format("{}/{}", folder, file), text);
    json += to_json(finding, column.info(), column.host(), file);
    json += '\n';
  }
}

void write_reports(const std::string& folder, const std::string& json) {
  reports::Results results;
  if (const auto error = reports::read_results(json, "conform.jsonl", results))
    throw Failure(*error);
  write_file(folder + "/conform.jsonl", json);
  write_file(folder + "/conform.html", reports::to_html(results));
  write_file(folder + "/conform.md", reports::to_markdown(results));
  write_file(folder + "/conform.xml", reports::to_junit(results));
}

void stay_on(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (cpu >= CPU_SETSIZE) throw Failure(fmt::format("--cpu: there is no processor {}", cpu));
  CPU_SET(static_cast<unsigned>(cpu), &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0)
    throw Failure(fmt::format("--cpu: there is no processor {}", cpu));
}

// All columns of a run, and what is kept of them.
class Run {
 public:
  explicit Run(const ConformOptions& options) : options_(options), modes_(modes_of(options)) {}

  // Emulated hosts run side by side, on a processor each.
  void columns(std::span<const SubjectWords> all) {
    const bool alone = options_.host == "local" || options_.cpu >= 0;
    in_turn(all.size(), alone ? 1 : std::thread::hardware_concurrency(),
            [&](std::size_t n, const std::function<bool()>& wait) { one(all[n], wait); });
  }

  // The same with this machine's module of KVM loaded in both ways.
  void both_ways(std::span<const SubjectWords> all) {
    hosts::LocalModule module;
    std::string why;
    if (!module.find(why)) throw Failure("--reload-module: " + why);
    for (const bool value : {true, false}) {
      if (!module.load_with(value, why)) throw Failure("--reload-module: " + why);
      for (SubjectWords words : all) {
        words.host = fmt::format("local:{}={}", module.parameter(), value ? 1 : 0);
        one(words, [] { return true; });
      }
    }
  }

  int finish() const {
    if (!options_.json) write_out(conform_matrix(lines_));
    if (!options_.json && !options_.out.empty()) print("{}/conform.html\n", options_.out);
    const bool failed = std::any_of(lines_.begin(), lines_.end(), [](const ConformLine& line) {
      return line.result == ConformResult::kFail;
    });
    return failed ? kExitFound : kExitGood;
  }

 private:
  std::string why_not_now() const {
    if (fuzz::interrupted()) return kInterrupted;
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start_;
    if (options_.seconds > 0 && spent.count() >= options_.seconds)
      return fmt::format("the time limit of {} s is over", options_.seconds);
    return "";
  }

  void one(const SubjectWords& words, const std::function<bool()>& wait) {
    Column column(options_, words, modes_);
    const std::string why = why_not_now();
    if (why.empty()) column.prepare();
    if (!wait()) return;
    if (why.empty()) {
      column.finish();
    } else {
      column.leave_out(why);
    }
    json_ += stamp_of(column) + "\n";
    for (const ConformLine& line : column.lines()) json_ += to_json(line) + "\n";
    lines_.insert(lines_.end(), column.lines().begin(), column.lines().end());
    if (options_.json) print("{}\n", stamp_of(column));
    if (options_.out.empty()) return;
    write_findings(options_.out, column, json_);
    write_reports(options_.out, json_);
  }

  const ConformOptions& options_;
  const std::vector<Mode> modes_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::vector<ConformLine> lines_;
  std::string json_;  // of all columns so far
};

}  // namespace

int conform(const ConformOptions& options) {
  const std::vector<SubjectWords> columns = columns_of(options);
  const fuzz::Interrupts interrupts;  // what was done by then is kept and told
  Run run(options);
  if (options.cpu >= 0) stay_on(options.cpu);
  if (!options.out.empty()) {
    const std::string error = fuzz::make_folder(options.out + "/findings");
    if (!error.empty()) throw Failure(error);
  }
  if (!options.reload_module) {
    run.columns(columns);
  } else if (options.host == "local") {
    run.both_ways(columns);
  } else {
    throw Failure("--reload-module is for this machine's own KVM");
  }
  return run.finish();
}

}  // namespace twinwalk::cli
