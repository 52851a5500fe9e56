#include "harness/cli/fuzz_report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "harness/checker.h"
#include "harness/cli/nested_look.h"
#include "harness/cli/walk_table.h"
#include "harness/fuzzing/atomic_file.h"
#include "harness/own_subject.h"
#include "harness/trace/load.h"
#include "harness/trace/print.h"
#include "harness/trace/schema.h"
#include "oracle/rules.h"
#include "reports/ci_formats.h"
#include "reports/html.h"

namespace twinwalk::cli {
namespace {

constexpr std::size_t kMaxFinding = 1 << 22;

// Counters are kept operation by operation; the picture wants them role by role.
reports::StateMap state_map(const CoreStateNames& names, const std::vector<std::uint64_t>& hits) {
  reports::StateMap map;
  map.title = names.title;
  map.roles = names.roles;
  map.levels = names.levels;
  map.operations = names.operations;
  const std::size_t roles = names.roles.size(), levels = names.levels.size(),
                    operations = names.operations.size();
  map.counts.assign(roles * levels * operations, 0);
  for (std::size_t o = 0; o < operations; ++o) {
    for (std::size_t l = 0; l < levels; ++l) {
      for (std::size_t r = 0; r < roles; ++r) {
        const std::size_t from = names.first + (o * levels + l) * roles + r;
        if (from < hits.size()) map.counts[(r * levels + l) * operations + o] = hits[from];
      }
    }
  }
  return map;
}

// What the first divergence of a trace was.
struct Divergence {
  bool found = false;
  std::uint32_t step = 0;
};

Divergence first_divergence(Checker& checker, const Trace& trace) {
  Divergence d;
  checker.check(trace, [&](const CheckEvent& event) {
    if (d.found || event.known || event.verdict.kind != VerdictKind::kDiverge) return;
    d = {true, event.step};
  });
  return d;
}

std::string note_of(const oracle::WalkViewStep& step) {
  if (step.memory_differs) return fmt::format("register; memory holds {:#x}", step.in_memory);
  if (!(step.entry & pte::kP)) return "not present";
  if (step.reserved) return fmt::format("reserved bits {:#x}", step.reserved_bits);
  return fmt::format("so far {}{}{}", step.writable ? "w" : "-", step.user ? "u" : "-",
                     step.executable ? "x" : "-");
}

// "EPT4 0x141000|r|w|x": level and value; what became of it follows.
std::string nested_line(Nesting kind, unsigned level, std::uint64_t entry) {
  return fmt::format("{}{} {}", kind == Nesting::kNpt ? "NPT" : "EPT", level,
                     nested_text(kind, entry));
}

std::string nested_title(std::uint64_t gpa, bool leads, std::uint64_t hpa) {
  return leads ? fmt::format("gpa {:#x} is hpa {:#x}", gpa, hpa)
               : fmt::format("gpa {:#x} is translated to nothing", gpa);
}

// Before the access; nothing where the reference has no second dimension.
reports::NestedLines nested_lines(const oracle::NestedView& view, Nesting kind) {
  reports::NestedLines nested;
  if (view.steps.empty()) return nested;
  nested.title = nested_title(view.gpa, view.translates, view.hpa);
  for (const oracle::NestedViewStep& s : view.steps) {
    nested.lines.push_back(nested_line(kind, s.level, s.entry) +
                           (s.misconfigured ? " malformed" : ""));
  }
  return nested;
}

// As the subject left it.
reports::NestedLines nested_lines(std::uint64_t gpa, const oracle::NestedView& before,
                                  const NestedLook& look) {
  reports::NestedLines nested;
  const NestedPath* path = look.find(gpa);
  if (path == nullptr) return nested;
  nested.title = nested_title(gpa, path->leads, path->hpa);
  for (unsigned i = 0; i < path->count; ++i) {
    std::string line = nested_line(look.kind, path->levels - i, path->entry[i]);
    if (i < before.steps.size() && before.steps[i].entry != path->entry[i])
      line += " (" + nested_change(look.kind, before.steps[i].entry, path->entry[i]) + ")";
    nested.lines.push_back(std::move(line));
  }
  return nested;
}

reports::Walk reference_walk(const oracle::WalkView& view) {
  reports::Walk walk;
  walk.title = "reference: fresh walk, before";
  walk.outcome = to_text(view.fresh);
  for (const oracle::WalkViewPart& part : view.parts) {
    for (const oracle::WalkViewStep& s : part.steps) {
      walk.levels.push_back({s.level, s.table_gpa, s.index, s.entry, note_of(s),
                             nested_lines(s.nested, view.second)});
    }
    walk.last = nested_lines(part.nested, view.second);
  }
  return walk;
}

// What became of an entry: A and D come and go, anything else is a store into the table.
std::string change_note(std::uint64_t before, std::uint64_t after) {
  const std::uint64_t change = before ^ after;
  if (change & ~(pte::kA | pte::kD)) return "overwritten";
  std::string note;
  if (change & after) note += "set " + bits_text(change & after, pte::kNames);
  if (change & before) note += " cleared " + bits_text(change & before, pte::kNames);
  return note;
}

// The same entries as the subject left them.
reports::Walk subject_walk(const oracle::WalkView& view, const Outcome& got, const NestedLook& look,
                           const std::string& name) {
  reports::Walk walk;
  walk.title = name + ": as it left them";
  walk.outcome = to_text(got);
  for (std::size_t half = 0; half < view.parts.size() && half < 2; ++half) {
    const oracle::WalkViewPart& part = view.parts[half];
    const auto& steps = part.steps;
    const Path& path = got.path[half];
    // Its path is a walk of memory: another one where a PDPTE register differs.
    if (!steps.empty() && steps[0].memory_differs) continue;
    for (std::size_t i = 0; i < steps.size() && i < path.count; ++i) {
      walk.levels.push_back({steps[i].level, steps[i].table_gpa, steps[i].index, path.entry[i],
                             change_note(steps[i].entry, path.entry[i]),
                             steps[i].from_register
                                 ? reports::NestedLines{}
                                 : nested_lines(steps[i].entry_gpa, steps[i].nested, look)});
    }
    walk.last = nested_lines(part.translates ? part.gpa : part.nested.gpa, part.nested, look);
  }
  return walk;
}

std::vector<reports::Walk> walks_at_divergence(const Trace& trace) {
  const auto subject = make_own_subject();
  Checker checker(*subject);
  const Divergence d = first_divergence(checker, trace);
  const auto& steps = checker.program().steps;
  if (!d.found || d.step >= steps.size() || steps[d.step].what.verb != Verb::kAccess) return {};
  oracle::Spec spec;
  spec.reset(checker.program().machine, subject->profile_for(trace.machine));
  Verdict verdict;
  const OutcomeStream& seen = checker.outcomes();
  for (std::uint32_t i = 0; i < d.step; ++i)
    spec.judge(i, steps[i], seen.steps[i], seen.extra.data(), verdict);
  const Op& op = steps[d.step].what;
  const oracle::WalkView view = spec.view(op.vcpu, access_query(op, spec.registers(op.vcpu)));
  const std::vector<NestedLook> looks =
      look_at_second_dimension(checker.program(), {{d.step, addresses_in(view)}});
  return {reference_walk(view),
          subject_walk(view, seen.steps[d.step], looks[0], subject->info().name)};
}

// As it stands on disk: the files are what counts.
reports::Finding finding_on_disk(const fuzz::FindingRecord& record, const fuzz::RunRecord& run,
                                 const fuzz::Output& output) {
  reports::Finding f;
  f.name = record.name;
  f.replays = fuzz::kReplays;
  f.reproduced = record.reproduced;
  f.hits = record.hits;
  f.seconds = record.seconds;
  f.is_new = record.is_new;
  const std::string stem = output.findings() + "/" + record.name;
  f.command = fmt::format("./twinwalk explain{} {}.walk", run.subject_words, stem);
  std::string text;
  std::size_t op = 0;
  if (fuzz::read_file(stem + ".json", kMaxFinding, text)) {
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
  if (fuzz::read_file(stem + ".walk", kMaxFinding, f.trace_text)) {
    const ParseResult read = parse(f.trace_text, record.name);
    if (read && op < read.trace.ops.size()) f.trace_line = read.trace.ops[op].line;
    if (read && f.subject == make_own_subject()->info().name)
      f.walks = walks_at_divergence(read.trace);
  }
  return f;
}

reports::FuzzReport report_of(const fuzz::RunRecord& run, const fuzz::Output& output) {
  reports::FuzzReport r;
  r.title = run.options.config;
  r.engine = fuzz::name_of(run.options.engine);
  const bool core = run.subject.empty();
  r.subject = core ? make_own_subject()->info().name + " " + make_own_subject()->info().version
                   : run.subject;
  r.unicorn_version = run.unicorn_version;
  r.command = fmt::format("twinwalk fuzz{} --seconds {} --jobs {} --config {}", run.subject_words,
                          run.options.seconds, run.workers, r.title);
  if (core)
    r.command +=
        fmt::format(" --engine {} --unicorn-share {}", r.engine, run.options.unicorn_share);
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
  for (const fuzz::Moment& m : run.moments) r.samples.push_back({m.seconds, m.execs, m.edges});
  for (const CoreStateNames& names : core_state_names()) {
    if (!core) break;  // whose states have no such names
    r.states.push_back(state_map(names, run.states));
  }
  for (const fuzz::FindingRecord& f : run.findings)
    r.findings.push_back(finding_on_disk(f, run, output));
  r.remarks = run.remarks;
  return r;
}

}  // namespace

std::string write_fuzz_report(const fuzz::RunRecord& run, const fuzz::Output& output) {
  const reports::FuzzReport report = report_of(run, output);
  const std::string why = fuzz::write_atomically(output.junit(), reports::to_junit(report));
  return why.empty() ? fuzz::write_atomically(output.report(), reports::to_html(report)) : why;
}

}  // namespace twinwalk::cli
