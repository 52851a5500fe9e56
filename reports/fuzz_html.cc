#include <fmt/format.h>

#include <cstddef>
#include <string_view>

#include "reports/chart.h"
#include "reports/escape.h"
#include "reports/html.h"
#include "reports/json.h"
#include "reports/page.h"

namespace twinwalk::reports {
namespace {

constexpr std::size_t kOpenFindings = 3;

std::string duration(double seconds) {
  if (seconds < 120) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<std::uint64_t>(seconds);
  if (whole < 7200) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole / 60 % 60);
}

std::string rate(std::uint64_t count, double seconds) {
  return seconds > 0 ? short_number(static_cast<double>(count) / seconds) + " per second" : "";
}

std::string tiles(const FuzzReport& r) {
  const std::string each =
      r.execs ? fmt::format("{:.1f} per execution",
                            static_cast<double>(r.ops) / static_cast<double>(r.execs))
              : "";
  return "<dl class=\"tiles\">\n" +
         tile("New divergences", grouped(r.new_divergences), grouped(r.divergences) + " in all") +
         tile("Executions", grouped(r.execs), rate(r.execs, r.seconds)) +
         tile("Operations", grouped(r.ops), each) +
         tile("Checks against spec", grouped(r.checks), rate(r.checks, r.seconds)) +
         tile("Checks against Unicorn", grouped(r.unicorn_checks),
              r.unicorn_version.empty() ? "not available" : "Unicorn " + r.unicorn_version) +
         tile("Edges", grouped(r.edges), "of the core") +
         tile("MMU states", grouped(r.mmu_states)) +
         tile("Time", duration(r.seconds),
              fmt::format("{} worker{}", r.workers, r.workers == 1 ? "" : "s")) +
         "</dl>\n";
}

void fact(std::string& out, std::string_view name, const std::string& markup) {
  if (!markup.empty()) out += fmt::format("<dt>{}</dt><dd>{}</dd>", name, markup);
}

std::string code(const std::string& text) {
  return text.empty() ? "" : "<code>" + escape_markup(text) + "</code>";
}

std::string what_ran(const FuzzReport& r) {
  std::string out = "<h2>What ran</h2>\n<dl class=\"facts\">";
  fact(out, "Command", code(r.command));
  fact(out, "Engine", escape_markup(r.engine));
  fact(out, "Configuration", escape_markup(r.title));
  fact(out, "Subject", escape_markup(r.subject));
  fact(out, "References",
       "spec" + (r.unicorn_version.empty() ? "" : ", Unicorn " + escape_markup(r.unicorn_version)));
  fact(out, "Started", escape_markup(r.started));
  out += "</dl>\n";
  if (!r.remarks.empty()) {
    out += "<ul class=\"remarks\">";
    for (const std::string& remark : r.remarks) out += "<li>" + escape_markup(remark) + "</li>";
    out += "</ul>\n";
  }
  return out;
}

std::string charts(const FuzzReport& r) {
  std::vector<Point> speed, edges;
  for (std::size_t i = 0; i < r.samples.size(); ++i) {
    const Sample& now = r.samples[i];
    edges.push_back({now.seconds, static_cast<double>(now.edges)});
    const Sample before = i ? r.samples[i - 1] : Sample{};
    if (now.seconds <= before.seconds || now.execs < before.execs) continue;
    speed.push_back({now.seconds, static_cast<double>(now.execs - before.execs) /
                                      (now.seconds - before.seconds)});
  }
  return "<h2>Over time</h2>\n<div class=\"charts\">\n" +
         line_chart("Executions per second", "s", std::move(speed)) +
         line_chart("Edges of the core covered", "s", std::move(edges)) + "</div>\n";
}

// The trace with the operation that diverges marked.
std::string marked_trace(const Finding& f) {
  std::string out = "<pre>";
  std::string_view rest = f.trace_text;
  for (std::size_t line = 1; !rest.empty(); ++line) {
    const std::size_t end = rest.find('\n');
    const std::string text = escape_markup(rest.substr(0, end));
    out += line == f.trace_line ? "<mark>" + text + "</mark>" : text;
    out += '\n';
    rest.remove_prefix(end == rest.npos ? rest.size() : end + 1);
  }
  return out + "</pre>\n";
}

std::string finding(const Finding& f, bool open) {
  std::string out = fmt::format(
      "<details class=\"finding\" id=\"{0}\"{1}><summary><code>{0}</code> {2} <span "
      "class=\"muted\">{3}</span></summary>\n",
      escape_markup(f.name), open ? " open=\"open\"" : "", badge(f.is_new ? "new" : "known"),
      escape_markup(f.rule_says));
  out += "<dl class=\"facts\">";
  fact(out, "Class", escape_markup(f.cls));
  fact(out, "Differs in", escape_markup(f.field));
  fact(out, "Seen", code(f.got));
  fact(out, "Allowed", code(f.allowed));
  fact(out, "Subject",
       escape_markup(f.subject) +
           (f.profile.empty() ? "" : ", profile " + escape_markup(f.profile)));
  if (f.replays)
    fact(out, "Replayed", fmt::format("{} of {} times the same", f.reproduced, f.replays));
  fact(out, "Again", code(f.command));
  fact(out, "Met",
       fmt::format("{} time{}, first after {}", grouped(f.hits), f.hits == 1 ? "" : "s",
                   duration(f.seconds)));
  out += "</dl>\n";
  if (!f.rule.empty()) {
    out += fmt::format("<h3>The rule: {}</h3>\n<blockquote>{}{}</blockquote>\n",
                       escape_markup(f.rule), escape_markup(f.rule_says),
                       f.citation.empty()
                           ? ""
                           : "<br/><span class=\"muted\">" + escape_markup(f.citation) + "</span>");
  }
  if (!f.walks.empty()) out += "<h3>The walks</h3>\n" + walk_picture(f.walks);
  out += "<h3>The trace, minimised</h3>\n" + marked_trace(f) + "</details>\n";
  return out;
}

std::string findings(const FuzzReport& r) {
  std::string out = "<h2>Findings</h2>\n";
  if (r.findings.empty()) {
    const std::string why =
        r.checks == 0 ? "None, but nothing was checked either."
        : r.divergences == 0
            ? "None: subject and references agreed on every check."
            : fmt::format("None was kept; {} divergences were counted.", grouped(r.divergences));
    return out + "<p>" + why + "</p>\n";
  }
  std::size_t shown = 0;
  for (const bool fresh : {true, false}) {  // what is new first
    for (const Finding& f : r.findings) {
      if (f.is_new == fresh) out += finding(f, fresh && shown++ < kOpenFindings);
    }
  }
  return out;
}

std::string known(const FuzzReport& r) {
  if (r.known.empty()) return "";
  Table table("known deviations", {"Id", "Of", "What", "Hits"}, "c001");
  for (const KnownDeviation& k : r.known) {
    table.row(
        {escape_markup(k.id), escape_markup(k.subject), escape_markup(k.says), grouped(k.hits)});
  }
  return "<h2>Known deviations met</h2>\n<p class=\"muted\">Accepted in the ledger, each with a "
         "trace and a citation; not counted as divergences.</p>\n" +
         table.finish(false);
}

// Of paging that the run had nothing of there is a line.
std::string state_maps(const FuzzReport& r) {
  std::string out;
  for (const StateMap& map : r.states)
    out += "<h3>" + escape_markup(map.title) + "</h3>\n" + heat_map(map);
  return out.empty() ? heat_map({}) : out;
}

}  // namespace

std::string to_html(const FuzzReport& r) {
  const std::string verdict = r.new_divergences == 0
                                  ? "no new divergence"
                                  : fmt::format("{} new divergence{}", grouped(r.new_divergences),
                                                r.new_divergences == 1 ? "" : "s");
  const std::string subtitle =
      fmt::format("{} on {} for {}{}", r.engine, r.subject, duration(r.seconds),
                  r.started.empty() ? "" : ", " + r.started);
  return page(fmt::format("Twinwalk {}: {}", r.title, verdict), subtitle,
              tiles(r) + findings(r) + charts(r) + "<h2>MMU states reached</h2>\n" + state_maps(r) +
                  known(r) + what_ran(r),
              to_json(r));
}

}  // namespace twinwalk::reports
