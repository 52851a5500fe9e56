#include "harness/fuzzing/summary.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "harness/core_subject.h"
#include "harness/fuzzing/atomic_file.h"
#include "harness/trace/load.h"
#include "oracle/rules.h"
#include "reports/ci_formats.h"
#include "reports/html.h"

namespace twinwalk::fuzz {
namespace {

constexpr std::size_t kMaxFinding = 1 << 22;

std::string short_number(double n) {
  if (n >= 1e9) return fmt::format("{:.1f}G", n / 1e9);
  if (n >= 1e6) return fmt::format("{:.1f}M", n / 1e6);
  if (n >= 1e4) return fmt::format("{:.0f}k", n / 1e3);
  return fmt::format("{:.0f}", n);
}

double speed(const Moment& total) {
  return total.seconds > 0 ? static_cast<double>(total.execs) / total.seconds : 0;
}

// Counters are kept operation by operation; the picture wants them role by role.
reports::StateMap state_map(const std::vector<std::uint64_t>& hits) {
  const CoreStateNames names = core_state_names();
  reports::StateMap map;
  map.roles = names.roles;
  map.levels = names.levels;
  map.operations = names.operations;
  const std::size_t roles = names.roles.size(), levels = names.levels.size(),
                    operations = names.operations.size();
  map.counts.assign(roles * levels * operations, 0);
  for (std::size_t o = 0; o < operations; ++o) {
    for (std::size_t l = 0; l < levels; ++l) {
      for (std::size_t r = 0; r < roles; ++r) {
        const std::size_t from = (o * levels + l) * roles + r;
        if (from < hits.size()) map.counts[(r * levels + l) * operations + o] = hits[from];
      }
    }
  }
  return map;
}

// As it stands on disk: the files are what counts.
reports::Finding finding_on_disk(const FindingRecord& record, const Output& output) {
  reports::Finding f;
  f.name = record.name;
  f.replays = kReplays;
  f.reproduced = record.reproduced;
  f.hits = record.hits;
  f.seconds = record.seconds;
  f.is_new = record.is_new;
  const std::string stem = output.findings() + "/" + record.name;
  std::string text;
  std::size_t op = 0;
  if (read_file(stem + ".json", kMaxFinding, text)) {
    const auto line = nlohmann::json::parse(text, nullptr, false);
    if (line.is_object()) {
      f.cls = line.value("class", "");
      f.field = line.value("field", "");
      f.got = line.value("got", "");
      f.allowed = line.value("allowed", "");
      f.rule = line.value("rule", "");
      f.subject = line.value("subject", "");
      f.profile = line.value("profile", "");
      op = line.value("op", std::size_t{0});
    }
  }
  if (const Rule* rule = oracle::rules::find(f.rule)) {
    f.rule_says = rule->says;
    f.citation = rule->citation;
  }
  if (read_file(stem + ".walk", kMaxFinding, f.trace_text)) {
    const ParseResult read = parse(f.trace_text, record.name);
    if (read && op < read.trace.ops.size()) f.trace_line = read.trace.ops[op].line;
  }
  return f;
}

reports::FuzzReport report_of(const RunRecord& run, const Output& output) {
  reports::FuzzReport r;
  r.title = run.options.config;
  r.engine = name_of(run.options.engine);
  r.subject = make_core_subject()->info().name + " " + make_core_subject()->info().version;
  r.unicorn_version = run.unicorn_version;
  r.command =
      fmt::format("twinwalk fuzz --seconds {} --jobs {} --config {} --engine {} --unicorn-share {}",
                  run.options.seconds, run.workers, r.title, r.engine, run.options.unicorn_share);
  r.seconds = run.total.seconds;
  r.workers = run.workers;
  r.execs = run.total.execs;
  r.ops = run.total.ops;
  r.checks = run.total.checks;
  r.unicorn_checks = run.total.unicorn_checks;
  r.edges = run.total.edges;
  r.mmu_states = run.total.mmu_states;
  r.divergences = run.total.divergences;
  r.new_divergences = run.total.new_divergences;
  for (const Moment& m : run.moments) r.samples.push_back({m.seconds, m.execs, m.edges});
  r.states = state_map(run.states);
  for (const FindingRecord& f : run.findings) r.findings.push_back(finding_on_disk(f, output));
  r.remarks = run.remarks;
  return r;
}

}  // namespace

std::string name_of(Engine engine) { return engine == Engine::kAfl ? "afl" : "libfuzzer"; }

std::string to_json(const RunRecord& run) {
  nlohmann::ordered_json j;
  j["execs"] = run.total.execs;
  j["execs_per_second"] = static_cast<std::uint64_t>(speed(run.total));
  j["ops"] = run.total.ops;
  j["checks"] = run.total.checks;
  j["unicorn_checks"] = run.total.unicorn_checks;
  j["edges"] = run.total.edges;
  j["mmu_states"] = run.total.mmu_states;
  j["divergences"] = run.total.divergences;
  j["new_divergences"] = run.total.new_divergences;
  j["seconds"] = run.total.seconds;
  j["engine"] = name_of(run.options.engine);
  return j.dump() + "\n";
}

std::string progress_line(const Moment& now, const Moment& previous, std::size_t waiting) {
  const double span = now.seconds - previous.seconds;
  const double per_second = span > 0 ? static_cast<double>(now.execs - previous.execs) / span : 0;
  std::string line = fmt::format(
      "{:4.0f} s  {} execs  {}/s  {} checks  {} by unicorn  {} edges  {} states  {} corpus  {} "
      "findings",
      now.seconds, short_number(static_cast<double>(now.execs)), short_number(per_second),
      short_number(static_cast<double>(now.checks)),
      short_number(static_cast<double>(now.unicorn_checks)), now.edges, now.mmu_states, now.corpus,
      now.divergences);
  if (waiting) line += fmt::format(" ({} to triage)", waiting);
  return line;
}

std::string write_summary(const RunRecord& run, const Output& output) {
  std::string why = write_atomically(output.summary(), to_json(run));
  if (!why.empty()) return why;
  const reports::FuzzReport report = report_of(run, output);
  why = write_atomically(output.junit(), reports::to_junit(report));
  return why.empty() ? write_atomically(output.report(), reports::to_html(report)) : why;
}

}  // namespace twinwalk::fuzz
