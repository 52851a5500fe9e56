#include <fmt/format.h>

#include <cstddef>
#include <iterator>
#include <vector>

#include "reports/chart.h"
#include "reports/ci_formats.h"
#include "reports/conform_matrix.h"
#include "reports/escape.h"
#include "reports/zoo_table.h"

namespace twinwalk::reports {
namespace {

constexpr std::size_t kMostRows = 100;  // a summary is read, not searched

std::string e(const std::string& text) { return escape_markdown(text); }

// A fence longer than any run of backquotes within.
std::string fenced(const std::string& text) {
  std::string fence = "```";
  while (text.find(fence) != text.npos) fence += '`';
  return fence + "\n" + text + (text.empty() || text.back() != '\n' ? "\n" : "") + fence + "\n";
}

std::string rest(std::size_t count) {
  return count > kMostRows ? fmt::format("\n{} more.\n", count - kMostRows) : "";
}

std::string verdict_of(const ResultLine& l) {
  return e(l.baseline == "unchanged" ? l.verdict + " (known)" : l.verdict);
}

void run_part(std::string& out, const Results& r) {
  auto to = std::back_inserter(out);
  for (const RunSummary& s : r.summaries) {
    fmt::format_to(to,
                   "\n{} traces, {} operations, {} checks ({} against Unicorn): {} agree, {} "
                   "diverge, {} skip, {} unspecified.\n",
                   grouped(s.traces), grouped(s.ops), grouped(s.checks), grouped(s.unicorn_checks),
                   grouped(s.agree), grouped(s.diverge), grouped(s.skip), grouped(s.unspecified));
  }
  if (r.run.empty()) return;
  out +=
      "\n| verdict | class | trace | op | got | allowed | rule |\n|---|---|---|---:|---|---|---|\n";
  for (std::size_t i = 0; i < r.run.size() && i < kMostRows; ++i) {
    const ResultLine& l = r.run[i];
    fmt::format_to(to, "| {} | {} | {} | {} | {} | {} | {} |\n", verdict_of(l), e(l.cls),
                   e(l.trace), l.op, e(l.got), e(l.allowed), e(l.rule));
  }
  out += rest(r.run.size());
}

std::string cell(const ConformLine* c) {
  if (c == nullptr) return "";
  const std::string text = e(c->result) + " " + grouped(c->checks);
  return c->result == "fail" ? "**" + text + "**" : text;
}

void matrix_part(std::string& out, const ConformMatrix& matrix) {
  fmt::format_to(std::back_inserter(out), "\n## {} on {}\n\n| feature |", e(matrix.subject),
                 e(matrix.host));
  for (const std::string& mode : matrix.modes) out += " " + e(mode) + " |";
  out += "\n|---|";
  for (std::size_t i = 0; i < matrix.modes.size(); ++i) out += "---|";
  out += '\n';
  for (const ConformMatrix::Row& row : matrix.rows) {
    out += "| " + e(row.feature) + " |";
    for (const ConformLine* c : row.cells) out += " " + cell(c) + " |";
    out += '\n';
  }
}

// What did not simply pass, and why; what is worst comes first.
void reasons_part(std::string& out, const Results& r) {
  std::vector<const ConformLine*> lines;
  for (const char* result : {"fail", "known", "skip"})
    for (const ConformLine& c : r.conform)
      if (c.result == result) lines.push_back(&c);
  if (lines.empty()) return;
  out +=
      "\n## Why\n\n| result | feature | mode | subject | host | why |\n|---|---|---|---|---|---|\n";
  for (std::size_t i = 0; i < lines.size() && i < kMostRows; ++i) {
    const ConformLine& c = *lines[i];
    fmt::format_to(std::back_inserter(out), "| {} | {} | {} | {} | {} | {} |\n", e(c.result),
                   e(c.feature), e(c.mode), e(c.subject), e(c.host), e(c.why));
  }
  out += rest(lines.size());
}

void conform_part(std::string& out, const Results& r) {
  if (r.conform.empty()) return;
  for (const StampLine& s : r.stamps)
    fmt::format_to(std::back_inserter(out), "\n- {} on {}: {}", e(s.subject), e(s.host),
                   e(s.stamp));
  if (!r.stamps.empty()) out += '\n';
  if (!r.findings.empty())
    out +=
        "\n| finding | subject | host | got | allowed | reproduced | trace "
        "|\n|---|---|---|---|---|---|---|\n";
  for (const FindingLine& f : r.findings) {
    fmt::format_to(std::back_inserter(out), "| {} | {} | {} | {} | {} | {} of {} | {} |\n",
                   e(f.cls), e(f.subject), e(f.host), e(f.got), e(f.allowed), f.reproduced,
                   f.replays, e(f.file));
  }
  for (const ConformMatrix& matrix : conform_matrices(r.conform)) matrix_part(out, matrix);
  reasons_part(out, r);
}

void zoo_part(std::string& out, const Results& r) {
  const std::vector<ZooRow> rows = zoo_rows(r.zoo);
  auto to = std::back_inserter(out);
  for (const bool controls : {false, true}) {
    bool any = false;
    for (const ZooRow& row : rows) {
      if (row.control != controls) continue;
      if (!any)
        fmt::format_to(to,
                       "\n| {} | good | detected | reached | triggered | detected after | by "
                       "|\n|---|---|---:|---:|---:|---:|---|\n",
                       controls ? "control" : "bug");
      any = true;
      fmt::format_to(to, "| {} | {} | {} of {} | {} | {} | {} | {} |\n", e(row.bug),
                     row.is_good() ? "yes" : "**no**", row.detections(), row.trials.size(),
                     median_text(row.reach), median_text(row.trigger), median_text(row.detect),
                     e(row.ways()));
    }
  }
}

void mutation_part(std::string& out, const Results& r) {
  auto to = std::back_inserter(out);
  for (const MutationScore& s : r.scores) {
    fmt::format_to(to,
                   "\nMutants of {}: {} killed, {} survived, **{:.1f} %** (bound: {:g} %); {} the "
                   "same program, {} none.\n",
                   e(s.side), grouped(s.killed), grouped(s.survived), s.score, s.bound,
                   grouped(s.equivalent), grouped(s.invalid));
  }
  std::vector<const MutantLine*> survivors;
  for (const MutantLine& m : r.mutants)
    if (m.fate == "survived") survivors.push_back(&m);
  if (survivors.empty()) return;
  out += "\n| survived | was | now |\n|---|---|---|\n";
  for (std::size_t i = 0; i < survivors.size() && i < kMostRows; ++i) {
    const MutantLine& m = *survivors[i];
    fmt::format_to(to, "| {} | {} | {} |\n", e(m.mutant), e(m.was), e(m.now));
  }
  out += rest(survivors.size());
}

void bench_part(std::string& out, const Results& r) {
  if (r.bench.empty()) return;
  out += "\n| row | value | unit | ratio | target | holds |\n|---|---:|---|---:|---|---|\n";
  for (const BenchLine& b : r.bench) {
    fmt::format_to(std::back_inserter(out), "| {} | {:.4g} | {} | {:.2f} | {} | {} |\n", e(b.row),
                   b.value, e(b.unit), b.ratio, e(b.target),
                   !b.holds   ? "measured"
                   : *b.holds ? "yes"
                              : "**no**");
  }
}

void fuzz_part(std::string& out, const Results& r) {
  for (const FuzzLine& f : r.fuzz) {
    fmt::format_to(std::back_inserter(out),
                   "\nFuzz with {}: {} executions in {:.1f} s, {} checks ({} against Unicorn), "
                   "**{} new divergences**.\n",
                   e(f.engine), grouped(f.execs), f.seconds, grouped(f.checks),
                   grouped(f.unicorn_checks), grouped(f.new_divergences));
  }
}

}  // namespace

std::string to_markdown(const FuzzReport& r) {
  std::string out;
  auto to = std::back_inserter(out);
  fmt::format_to(to, "# Twinwalk {}: {} new divergence{}\n\n", e(r.title),
                 grouped(r.new_divergences), r.new_divergences == 1 ? "" : "s");
  fmt::format_to(to,
                 "{} on {}, {:.1f} s, {} workers: {} executions, {} operations, {} checks against "
                 "spec, {} against Unicorn{}; {} edges, {} MMU states.\n",
                 e(r.engine), e(r.subject), r.seconds, r.workers, grouped(r.execs), grouped(r.ops),
                 grouped(r.checks), grouped(r.unicorn_checks),
                 r.unicorn_version.empty() ? "" : " " + e(r.unicorn_version), grouped(r.edges),
                 grouped(r.mmu_states));
  for (const std::string& remark : r.remarks) fmt::format_to(to, "\n- {}", e(remark));
  if (!r.remarks.empty()) out += '\n';
  for (const Finding& f : r.findings) {
    fmt::format_to(to, "\n## {}{}\n\n{} ({}; {})\n\n- seen: {}\n- allowed: {}\n{}\n{}", e(f.name),
                   f.is_new ? "" : " (known)", e(f.rule_says), e(f.rule), e(f.citation), e(f.got),
                   e(f.allowed), f.command.empty() ? "" : "- again: `" + f.command + "`\n",
                   fenced(f.trace_text));
  }
  if (!r.known.empty()) out += "\n| known deviation | of | hits |\n|---|---|---:|\n";
  for (const KnownDeviation& k : r.known)
    fmt::format_to(to, "| {} | {} | {} |\n", e(k.id), e(k.subject), grouped(k.hits));
  return out;
}

std::string to_markdown(const Results& r) {
  std::string out = "# Twinwalk results\n";
  run_part(out, r);
  conform_part(out, r);
  zoo_part(out, r);
  mutation_part(out, r);
  bench_part(out, r);
  fuzz_part(out, r);
  return out;
}

}  // namespace twinwalk::reports
