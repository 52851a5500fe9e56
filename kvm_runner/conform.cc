#include "kvm_runner/conform.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "harness/trace/parse.h"
#include "harness/trace/schema.h"
#include "kvm_runner/corpus_traces.h"

namespace twinwalk {
namespace {

// Traces of the suite are part of the program: one that does not parse is a mistake in it.
Trace parse_case(const ConformFeature& feature, const ConformCase& c) {
  ParseResult parsed = parse(c.text, fmt::format("{}/{}", feature.name, c.name));
  if (!parsed) throw std::logic_error(to_text(*parsed.error));
  return std::move(parsed.trace);
}

// A subject of the core has but that one hypervisor.
bool may_be_hypervisor(const SubjectInfo& info) { return info.name == "kvm"; }

void add_suite(Mode mode, const SubjectInfo& info, std::vector<ConformRow>& rows) {
  for (const ConformFeature& feature : conform_features(mode)) {
    if (feature.nested && !may_be_hypervisor(info)) continue;
    ConformRow row{std::string(feature.name), std::string(name_of(mode)), {}};
    for (const ConformCase& c : feature.cases()) {
      row.traces.push_back({c.name, parse_case(feature, c)});
      fit_to_host(row.traces.back().trace, info);
    }
    rows.push_back(std::move(row));
  }
}

// A trace of the corpus is of one dimension. What it expects holds for the machine that it says,
// and for the core: a processor's TLB may lawfully know more, and the reference says how much.
bool fit_corpus_trace(Trace& trace, const SubjectInfo& info) {
  const bool hypervisor = trace.machine.core == Dimension::kBare && may_be_hypervisor(info);
  if (!hypervisor && trace.machine.core != info.dimension.value_or(Dimension::kShadow))
    return false;
  const Machine as_written = trace.machine;
  fit_to_host(trace, info);
  const bool other_machine = !(trace.machine == as_written);
  if (other_machine || info.profile != Profile::kKvm) trace.expectations.clear();
  if (other_machine) trace.requires_line.clear();
  return true;
}

void add_corpus(std::span<const Mode> modes, const SubjectInfo& info,
                std::vector<ConformRow>& rows) {
  const std::vector<CorpusTrace> corpus = corpus_traces();
  for (const Mode mode : modes) {
    for (const char* folder : {"seed", "regress"}) {
      ConformRow row{fmt::format("corpus-{}", folder), std::string(name_of(mode)), {}};
      for (const CorpusTrace& c : corpus) {
        Trace trace = c.trace;
        if (c.folder == folder && trace.machine.mode == mode && fit_corpus_trace(trace, info))
          row.traces.push_back({c.name, std::move(trace)});
      }
      if (!row.traces.empty()) rows.push_back(std::move(row));
    }
  }
}

// So many of them, evenly spread.
void thin_out(std::vector<ConformTrace>& traces, std::size_t most) {
  if (most == 0 || traces.size() <= most) return;
  std::vector<ConformTrace> kept;
  for (std::size_t i = 0; i < most; ++i)
    kept.push_back(std::move(traces[i * traces.size() / most]));
  traces = std::move(kept);
}

struct Row {
  ConformLine line;
  std::uint64_t cases = 0, skipped = 0;
  std::string known_why, skip_why;
};

void add(Row& row, const ConformTrace& c, const CaseVerdict& v) {
  ++row.cases;
  row.line.checks += v.checks;
  if (v.diverge != 0) {
    if (row.line.failed.empty()) row.line.why = c.name + ": " + v.why;
    row.line.failed.push_back(c);
  } else if (v.known != 0) {
    if (row.known_why.empty()) row.known_why = v.why;
  } else if (v.skip != 0) {
    if (row.skip_why.empty()) row.skip_why = v.why;
    ++row.skipped;
  }
}

void conclude(Row& row) {
  if (!row.line.failed.empty()) {
    row.line.result = ConformResult::kFail;
    row.line.why =
        fmt::format("{} of {} cases: {}", row.line.failed.size(), row.cases, row.line.why);
  } else if (!row.known_why.empty()) {
    row.line.result = ConformResult::kKnown;
    row.line.why = row.known_why;
  } else if (row.skipped == row.cases) {
    row.line.result = ConformResult::kSkip;
    row.line.why = row.skip_why;
  } else if (row.skipped != 0) {
    row.line.why = fmt::format("{} of {} cases skipped: {}", row.skipped, row.cases, row.skip_why);
  }
}

std::string column_of(const ConformLine& line) {
  return line.subject + " " + line.host + " " + line.mode;
}

// The distinct values of `key`, in the order in which they come.
template <class Key>
std::vector<std::string> distinct(std::span<const ConformLine> lines, Key key) {
  std::vector<std::string> all;
  for (const ConformLine& line : lines) {
    if (std::find(all.begin(), all.end(), key(line)) == all.end()) all.push_back(key(line));
  }
  return all;
}

// Why rows are as they are; a reason that several rows have is told once.
void append_reasons(std::span<const ConformLine> lines, std::string& out) {
  const auto reason_of = [](const ConformLine& line) { return column_of(line) + ": " + line.why; };
  for (const std::string& reason : distinct(lines, reason_of)) {
    std::string rows;
    for (const ConformLine& line : lines) {
      if (line.why.empty() || reason_of(line) != reason) continue;
      rows += fmt::format("{}{}", rows.empty() ? "" : ", ", line.feature);
    }
    if (!rows.empty()) out += fmt::format("{}\n    ({})\n", reason, rows);
  }
}

}  // namespace

std::string_view name_of(ConformResult result) {
  constexpr std::string_view kNames[] = {"pass", "known", "fail", "skip"};
  return kNames[static_cast<unsigned>(result)];
}

std::string to_json(const ConformLine& line) {
  nlohmann::ordered_json json;
  json["feature"] = line.feature;
  json["subject"] = line.subject;
  json["host"] = line.host;
  json["mode"] = line.mode;
  json["result"] = name_of(line.result);
  json["checks"] = line.checks;
  json["why"] = line.why;
  return json.dump();
}

void fit_to_host(Trace& trace, const SubjectInfo& info) {
  Machine& machine = trace.machine;
  if (info.vendor && machine.vendor == Machine{}.vendor) machine.vendor = *info.vendor;
  if (info.dimension && machine.core != Dimension::kBare) machine.core = *info.dimension;
  reconcile(machine);
}

std::vector<ConformRow> conform_rows(const ConformChoice& choice, const SubjectInfo& info) {
  std::vector<ConformRow> rows;
  for (const Mode mode : choice.modes) add_suite(mode, info, rows);
  if (choice.corpus) add_corpus(choice.modes, info, rows);
  for (ConformRow& row : rows) thin_out(row.traces, choice.most_cases);
  return rows;
}

std::vector<ConformLine> conform(Subject& subject, std::string_view host,
                                 std::span<const ConformRow> rows, const ConformJudge& judge,
                                 const std::function<void(const ConformLine&)>& on_line) {
  std::vector<ConformLine> lines;
  for (const ConformRow& asked : rows) {
    Row row;
    row.line.feature = asked.feature;
    row.line.subject = subject.info().name;
    row.line.host = host;
    row.line.mode = asked.mode;
    for (const ConformTrace& c : asked.traces) add(row, c, judge(c.trace, subject));
    conclude(row);
    lines.push_back(std::move(row.line));
    if (on_line) on_line(lines.back());
  }
  return lines;
}

std::string conform_matrix(std::span<const ConformLine> lines) {
  const auto feature_of = [](const ConformLine& line) { return line.feature; };
  const std::vector<std::string> columns = distinct(lines, column_of),
                                 features = distinct(lines, feature_of);
  std::string out = fmt::format("{:<22}", "feature");
  for (const std::string& column : columns) out += fmt::format("  {:<26}", column);
  out += '\n';
  for (const std::string& feature : features) {
    out += fmt::format("{:<22}", feature);
    for (const std::string& column : columns) {
      std::string cell = "-";
      for (const ConformLine& line : lines) {
        if (line.feature != feature || column_of(line) != column) continue;
        cell = fmt::format("{} {}", name_of(line.result), line.checks);
      }
      out += fmt::format("  {:<26}", cell);
    }
    out += '\n';
  }
  append_reasons(lines, out);
  return out;
}

}  // namespace twinwalk
