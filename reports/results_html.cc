#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "reports/chart.h"
#include "reports/conform_matrix.h"
#include "reports/escape.h"
#include "reports/html.h"
#include "reports/json.h"
#include "reports/page.h"
#include "reports/zoo_table.h"

namespace twinwalk::reports {
namespace {

std::string e(const std::string& text) { return escape_markup(text); }
std::string code(const std::string& text) {
  return text.empty() ? "" : "<code>" + e(text) + "</code>";
}

RunSummary total(const Results& r) {
  RunSummary sum;
  for (const RunSummary& s : r.summaries) {
    sum.traces += s.traces, sum.ops += s.ops, sum.checks += s.checks, sum.agree += s.agree;
    sum.diverge += s.diverge, sum.skip += s.skip, sum.unspecified += s.unspecified,
        sum.unicorn_checks += s.unicorn_checks;
  }
  return sum;
}

std::string run_section(const Results& r) {
  if (r.run.empty() && r.summaries.empty()) return "";
  std::string out = "<h2>Replayed traces</h2>\n";
  if (!r.summaries.empty()) {
    const RunSummary s = total(r);
    out += "<dl class=\"tiles\">" + tile("Diverge", grouped(s.diverge)) +
           tile("Agree", grouped(s.agree)) + tile("Skip", grouped(s.skip)) +
           tile("Unspecified", grouped(s.unspecified)) +
           tile("Traces", grouped(s.traces), grouped(s.ops) + " operations") +
           tile("Checks", grouped(s.checks), grouped(s.unicorn_checks) + " against Unicorn") +
           "</dl>\n";
  }
  if (r.run.empty()) return out + "<p>Every operation agreed.</p>\n";
  std::map<std::string, std::uint64_t> classes;
  for (const ResultLine& l : r.run) ++classes[l.cls.empty() || l.cls == "none" ? l.verdict : l.cls];
  Table counts("classes", {"Class", "Lines"}, "c1");
  for (const auto& [name, count] : classes) counts.row({e(name), grouped(count)});
  Table lines("operations",
              {"Verdict", "Class", "Trace", "Op", "Verb", "Seen", "Allowed", "Rule", "Subject"},
              "0cc1c000c");
  for (const ResultLine& l : r.run) {
    lines.row({badge(l.verdict) + (l.baseline == "unchanged" ? " known" : ""), e(l.cls), e(l.trace),
               fmt::format("{}", l.op), e(l.verb), code(l.got), code(l.allowed), code(l.rule),
               e(l.subject) + (l.profile.empty() ? "" : " / " + e(l.profile))});
  }
  return out + "<h3>By class</h3>\n" + counts.finish(false) +
         "<h3>Operations that do not simply agree</h3>\n" + lines.finish(true);
}

std::string conform_matrix(const Results& r) {
  std::string out;
  for (const ConformMatrix& matrix : conform_matrices(r.conform)) {
    std::vector<std::string> head = {"Feature"};
    for (const std::string& mode : matrix.modes) head.push_back(e(mode));
    Table table("features", head, std::string(head.size(), '0'));
    for (const ConformMatrix::Row& of : matrix.rows) {
      std::vector<std::string> row = {e(of.feature)};
      for (const ConformLine* c : of.cells)
        row.push_back(c == nullptr ? "" : badge(c->result) + " " + grouped(c->checks));
      table.row(row);
    }
    out += "<h3>Matrix: " + e(matrix.subject) + " on " + e(matrix.host) + "</h3>\n" +
           table.finish(false);
  }
  return out;
}

std::string stamps_of(const Results& r) {
  if (r.stamps.empty()) return "";
  Table table("columns", {"Subject", "Host", "Ran on"}, "000");
  for (const StampLine& s : r.stamps) table.row({e(s.subject), e(s.host), e(s.stamp)});
  return "<h3>Where it ran</h3>\n" + table.finish(false);
}

std::string findings_of(const Results& r) {
  if (r.findings.empty()) return "";
  Table table(
      "findings",
      {"Class", "Subject", "Host", "Case", "Seen", "Allowed", "Rule", "Reproduced", "Trace"},
      "0000cc00c");
  for (const FindingLine& f : r.findings) {
    table.row({e(f.cls), e(f.subject), e(f.host), e(f.feature + "/" + f.case_name), code(f.got),
               code(f.allowed), code(f.rule), fmt::format("{} of {}", f.reproduced, f.replays),
               code(f.file)});
  }
  return "<h3>Findings, minimised where they were seen</h3>\n" + table.finish(false);
}

std::string conform_section(const Results& r) {
  if (r.conform.empty()) return "";
  std::map<std::string, std::uint64_t> by_result;
  for (const ConformLine& c : r.conform) ++by_result[c.result];
  std::string out = "<h2>Conformance</h2>\n<dl class=\"tiles\">";
  for (const char* result : {"pass", "known", "fail", "skip"})
    out += tile(result, grouped(by_result[result]));
  Table table("rows", {"Result", "Feature", "Mode", "Subject", "Host", "Checks", "Why"}, "0000010");
  for (const ConformLine& c : r.conform) {
    table.row({badge(c.result), e(c.feature), e(c.mode), e(c.subject), e(c.host), grouped(c.checks),
               e(c.why)});
  }
  return out + "</dl>\n" + findings_of(r) + conform_matrix(r) + stamps_of(r) +
         "<h3>Row by row</h3>\n" + table.finish(true);
}

std::string bugs_of(const std::vector<ZooRow>& rows) {
  Table table(
      "seeded bugs",
      {"Bug", "Detected", "Trials", "Reached", "Triggered", "Detected after", "Executions", "By"},
      "c0011110");
  std::uint64_t bugs = 0, found = 0;
  std::vector<SurvivalCurve> curves = zoo_curves(rows);
  for (const ZooRow& row : rows) {
    if (row.control) continue;
    ++bugs, found += row.is_good();
    std::uint64_t execs = 0;
    for (const ZooLine* z : row.trials) execs += z->execs;
    table.row({e(row.bug), badge(row.is_good() ? "yes" : "no"),
               fmt::format("{} of {}", row.detections(), row.trials.size()), median_text(row.reach),
               median_text(row.trigger), median_text(row.detect),
               grouped(execs / row.trials.size()), e(row.ways())});
  }
  if (bugs == 0) return "";
  return fmt::format(
             "<h2>Seeded bugs</h2>\n<p>{} of {} detected{}. Half of the trials reach the "
             "faulty line within {}, trigger it within {}, and detect it within {}.</p>\n",
             found, bugs, found == bugs ? "" : " in each trial", median_text(curves[0].ends),
             median_text(curves[1].ends), median_text(curves[2].ends)) +
         survival_chart("Part of the trials that still wait", curves) + table.finish(true);
}

std::string controls_of(const std::vector<ZooRow>& rows) {
  Table table("controls", {"Control", "Quiet", "Triggered", "Seconds", "Executions", "Alarms"},
              "c00110");
  bool any = false;
  for (const ZooRow& row : rows) {
    if (!row.control) continue;
    any = true;
    double seconds = 0;
    std::uint64_t execs = 0;
    bool triggered = true;
    for (const ZooLine* z : row.trials)
      seconds += z->seconds, execs += z->execs, triggered = triggered && z->triggered;
    table.row({e(row.bug), badge(row.detections() == 0 ? "yes" : "no"),
               badge(triggered ? "yes" : "no"), fmt::format("{:.1f}", seconds), grouped(execs),
               e(row.ways())});
  }
  return any ? "<h2>Neutral controls</h2>\n<p>Changes that are no bugs: nothing may be detected, "
               "and "
               "each has to have happened.</p>\n" +
                   table.finish(false)
             : "";
}

std::string zoo_section(const Results& r) {
  const std::vector<ZooRow> rows = zoo_rows(r.zoo);
  return bugs_of(rows) + controls_of(rows);
}

std::string mutation_section(const Results& r) {
  if (r.mutants.empty() && r.scores.empty()) return "";
  std::string out = "<h2>Mutants</h2>\n";
  for (const MutationScore& s : r.scores) {
    out += fmt::format(
        "<p>Of {}: {} killed, {} survived, <b>{:.1f} %</b> (bound: {:g} %). {} were the same "
        "program, {} none.</p>\n",
        e(s.side), grouped(s.killed), grouped(s.survived), s.score, s.bound, grouped(s.equivalent),
        grouped(s.invalid));
  }
  // What survived comes first: somebody has to look at it.
  Table table("mutants", {"Mutant", "Fate", "By", "How", "Was", "Now"}, "000000");
  for (const bool survived : {true, false}) {
    for (const MutantLine& m : r.mutants) {
      if ((m.fate == "survived") != survived) continue;
      table.row({e(m.mutant), badge(m.fate), e(m.by), e(m.how), "<code>" + e(m.was) + "</code>",
                 "<code>" + e(m.now) + "</code>"});
    }
  }
  return out + table.finish(true);
}

std::string bench_section(const Results& r) {
  if (r.bench.empty()) return "";
  Table table("rows", {"Row", "Value", "Unit", "Limit in the same run", "Ratio", "Target", "Holds"},
              "0101100");
  for (const BenchLine& b : r.bench) {
    table.row({e(b.row), fmt::format("{:.4g}", b.value), e(b.unit),
               b.limit > 0 ? fmt::format("{:.4g}", b.limit) : "",
               b.ratio > 0 ? fmt::format("{:.2f}", b.ratio) : "", e(b.target),
               badge(!b.holds   ? "measured"
                     : *b.holds ? "yes"
                                : "no")});
  }
  return "<h2>Benchmark</h2>\n" + table.finish(false);
}

std::string fuzz_section(const Results& r) {
  if (r.fuzz.empty()) return "";
  Table table("runs",
              {"Engine", "New divergences", "Divergences", "Executions", "Per second", "Operations",
               "Checks", "Unicorn checks", "Edges", "MMU states", "Seconds"},
              "01111111111");
  for (const FuzzLine& f : r.fuzz) {
    table.row({e(f.engine), grouped(f.new_divergences), grouped(f.divergences), grouped(f.execs),
               short_number(f.execs_per_second), grouped(f.ops), grouped(f.checks),
               grouped(f.unicorn_checks), grouped(f.edges), grouped(f.mmu_states),
               fmt::format("{:.1f}", f.seconds)});
  }
  return "<h2>Fuzz runs</h2>\n" + table.finish(false);
}

}  // namespace

std::string to_html(const Results& r) {
  std::vector<std::string> parts;
  const auto part = [&](std::size_t count, const char* one, const char* many) {
    if (count) parts.push_back(fmt::format("{} {}", grouped(count), count == 1 ? one : many));
  };
  part(r.run.size(), "operation", "operations");
  part(r.conform.size(), "conformance result", "conformance results");
  part(r.zoo.size(), "trial of the zoo", "trials of the zoo");
  part(r.mutants.size(), "mutant", "mutants");
  part(r.bench.size(), "benchmark row", "benchmark rows");
  part(r.fuzz.size(), "fuzz run", "fuzz runs");
  std::string subtitle;
  for (const std::string& p : parts) subtitle += (subtitle.empty() ? "" : ", ") + p;
  return page("Twinwalk results", subtitle,
              run_section(r) + conform_section(r) + zoo_section(r) + mutation_section(r) +
                  bench_section(r) + fuzz_section(r),
              to_json(r));
}

}  // namespace twinwalk::reports
