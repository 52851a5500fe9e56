#include "reports/page.h"

#include <fmt/format.h>

#include <cstddef>

#include "reports/chart.h"
#include "reports/escape.h"

namespace twinwalk::reports {
namespace {

constexpr std::string_view kStyle = R"css(
:root { color-scheme: light dark;
  --paper: #ffffff; --panel: #f6f7f9; --ink: #1b2330; --muted: #566172; --rule: #dde2e8;
  --accent: #2257a8; --good: #1a6b3c; --bad: #b0261c; --note: #7d5200; --differs: #fdf0ee;
  --h0: #f1f3f6; --h1: #d6e4f5; --h2: #aac8ea; --h3: #78a7da; --h4: #4a83c4; --h5: #285fa6; --h6: #123e7a; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #13161b; --panel: #1b2027; --ink: #e5e8ed; --muted: #9ba6b5; --rule: #2e353f;
  --accent: #83b1f5; --good: #74c794; --bad: #ff938a; --note: #e3b566; --differs: #33211f;
  --h0: #1c2129; --h1: #1e3350; --h2: #24497a; --h3: #2f64a5; --h4: #4a86cd; --h5: #7fb0ea; --h6: #c4defc; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; }
main, header { max-width: 76rem; margin: 0 auto; padding: 0 2rem; }
header { padding-top: 2.5rem; }
main { padding-bottom: 5rem; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0; font-weight: 650; letter-spacing: -0.01em; }
h2 { font-size: 1.2rem; margin: 3rem 0 .75rem; font-weight: 650; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; font-weight: 650; }
p { margin: .4rem 0 .8rem; max-width: 46rem; }
.muted, header p { color: var(--muted); }
a { color: var(--accent); }
code, pre, .mono, td.code { font-family: ui-monospace, "Cascadia Mono", "SF Mono", "DejaVu Sans Mono", monospace; font-size: .8125rem; }
svg text.mono, svg text.title, svg text.head { font-size: 12.5px; }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: 1px; margin: 1.75rem 0; padding: 1px;
  border-radius: 8px; overflow: hidden; }
.tiles div { background: var(--paper); padding: .8rem 1rem .7rem; box-shadow: 0 0 0 1px var(--rule); }
@media (max-width: 52rem) { .tiles { grid-template-columns: repeat(2, 1fr); } }
.tiles dt { color: var(--muted); font-size: .8125rem; }
.tiles dd { margin: 0; font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.35; }
.tiles dd small { display: block; font-size: .75rem; font-weight: 400; color: var(--muted); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 2rem; }
figure { margin: 0; }
figcaption { font-weight: 600; font-size: .9375rem; margin-bottom: .25rem; }
svg { display: block; max-width: 100%; height: auto; }
.panels { display: flex; flex-wrap: wrap; gap: 1.5rem 2rem; } .panels figure { overflow-x: auto; max-width: 100%; } .panels svg { max-width: none; }
.wide { overflow-x: auto; }
.wide svg { max-width: none; }
svg text { fill: var(--ink); font-size: 12px; }
svg .tick { fill: var(--muted); font-size: 11px; }
svg .end { text-anchor: end; } svg .mid { text-anchor: middle; }
svg .grid { stroke: var(--rule); } svg .line { fill: none; stroke: var(--accent); stroke-width: 1.75; stroke-linejoin: round; }
svg .curve { fill: none; stroke-width: 1.75; stroke-linejoin: round; }
svg .curve.c0 { stroke: var(--muted); stroke-dasharray: 2 3; } svg .curve.c1 { stroke: var(--note); stroke-dasharray: 7 4; } svg .curve.c2 { stroke: var(--accent); }
svg .name { font-size: 12px; } svg .name.c0 { fill: var(--muted); } svg .name.c1 { fill: var(--note); } svg .name.c2 { fill: var(--accent); }
svg .area { fill: var(--accent); opacity: .1; }
.h0 { fill: var(--h0); } .h1 { fill: var(--h1); } .h2 { fill: var(--h2); } .h3 { fill: var(--h3); }
.h4 { fill: var(--h4); } .h5 { fill: var(--h5); } .h6 { fill: var(--h6); }
.legend span { margin-left: .9rem; font-size: .8125rem; color: var(--muted); white-space: nowrap; }
.legend { font-size: .8125rem; color: var(--muted); max-width: none; }
.swatch { display: inline-block; width: 14px; height: 14px; vertical-align: -2px; }
svg .title { font-weight: 600; } svg .head { fill: var(--muted); font-size: 12px; } svg .note { fill: var(--note); font-size: 12px; }
svg .mark { fill: var(--bad); font-weight: 600; font-size: 12px; }
svg .box { fill: var(--panel); stroke: var(--rule); } svg .nested { fill: var(--paper); stroke: var(--rule); stroke-dasharray: 2 3; } svg .result { fill: var(--paper); stroke: var(--muted); }
svg .box.differs, svg .nested.differs, svg .result.differs { fill: var(--differs); stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 5 3; }
svg .arrow { fill: none; stroke: var(--muted); stroke-width: 1.25; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; } table.narrow { width: auto; min-width: 22rem; }
th { text-align: left; font-weight: 600; color: var(--muted); border-bottom: 1px solid var(--muted); padding: .4rem .9rem .4rem 0; white-space: nowrap; }
td { border-bottom: 1px solid var(--rule); padding: .4rem .9rem .4rem 0; vertical-align: top; overflow-wrap: anywhere; }
th.n, td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tbody tr:hover { background: var(--panel); }
.filter { display: flex; gap: 1rem; align-items: baseline; margin: .5rem 0; flex-wrap: wrap; }
input[type=search] { font: inherit; font-size: .875rem; color: inherit; background: var(--paper); border: 1px solid var(--muted);
  border-radius: 6px; padding: .3rem .6rem; width: 20rem; max-width: 100%; }
.badge { font-weight: 600; white-space: nowrap; } .good { color: var(--good); } .bad { color: var(--bad); } .note { color: var(--note); }
details.finding { border: 1px solid var(--rule); border-radius: 8px; margin: 1rem 0; padding: 0 1.25rem; }
details.finding > summary { cursor: pointer; padding: .8rem 0; display: flex; gap: 1rem; align-items: baseline; flex-wrap: wrap; }
details.finding > summary::before { content: "\25B8"; color: var(--muted); }
details.finding[open] > summary::before { content: "\25BE"; }
details.finding > summary code { font-size: .9375rem; font-weight: 600; }
details.finding[open] { padding-bottom: 1.25rem; }
dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.25rem; margin: .25rem 0 1rem; font-size: .9375rem; }
dl.facts dt { color: var(--muted); } dl.facts dd { margin: 0; overflow-wrap: anywhere; }
pre { background: var(--panel); border: 1px solid var(--rule); border-radius: 6px; padding: .8rem 1rem; overflow-x: auto; line-height: 1.5; margin: .25rem 0 1rem; }
pre mark { background: var(--differs); color: var(--bad); font-weight: 600; display: inline-block; min-width: 100%; }
blockquote { margin: .25rem 0 1rem; padding-left: 1rem; border-left: 3px solid var(--accent); max-width: 46rem; }
ul.remarks { padding-left: 1.2rem; max-width: 46rem; }
[hidden] { display: none !important; }
@media print { details.finding { break-inside: avoid; } .filter { display: none; } }
)css";

// Filters each table by the words typed above it.
constexpr std::string_view kScript = R"js(
for (const box of document.querySelectorAll('.filter')) {
  const input = box.querySelector('input'), count = box.querySelector('output');
  const rows = Array.from(box.nextElementSibling.tBodies[0].rows);
  const texts = rows.map(row => row.textContent.toLowerCase());
  const apply = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, i) => {
      row.hidden = !words.every(word => texts[i].includes(word));
      shown += row.hidden ? 0 : 1;
    });
    count.textContent = shown === rows.length ? rows.length + ' rows' : shown + ' of ' + rows.length + ' rows';
  };
  input.addEventListener('input', apply);
  apply();
}
)js";

struct Meaning {
  std::string_view word, tone, mark;
};
constexpr Meaning kMeanings[] = {
    {"agree", "good", "\u2713"},    {"pass", "good", "\u2713"},   {"yes", "good", "\u2713"},
    {"detected", "good", "\u2713"}, {"diverge", "bad", "\u2717"}, {"fail", "bad", "\u2717"},
    {"no", "bad", "\u2717"},        {"missed", "bad", "\u2717"},  {"new", "bad", "\u2717"},
    {"skip", "muted", "\u2013"},    {"known", "note", "\u25CB"},  {"unspecified", "note", "?"},
    {"measured", "muted", "\u2013"}};

}  // namespace

std::string badge(std::string_view word) {
  for (const Meaning& m : kMeanings) {
    if (m.word == word)
      return fmt::format("<span class=\"badge {}\">{} {}</span>", m.tone, m.mark, m.word);
  }
  return fmt::format("<span class=\"badge\">{}</span>", escape_markup(word));
}

std::string tile(std::string_view label, std::string_view value, std::string_view note) {
  const std::string small =
      note.empty() ? "" : fmt::format("<small>{}</small>", escape_markup(note));
  return fmt::format("<div><dt>{}</dt><dd>{}{}</dd></div>\n", escape_markup(label),
                     escape_markup(value), small);
}

Table::Table(std::string_view name, const std::vector<std::string>& head, std::string_view numeric)
    : name_(name), numeric_(numeric) {
  std::size_t i = 0;
  for (const std::string& cell : head) {
    head_ += fmt::format("<th scope=\"col\"{}>{}</th>",
                         numeric_.at(i++) == '1' ? " class=\"n\"" : "", cell);
  }
}

void Table::row(const std::vector<std::string>& cells) {
  if (++count_ > kMostRows) return;
  rows_ += "<tr>";
  std::size_t i = 0;
  for (const std::string& cell : cells) {
    const char kind = numeric_.at(i++);
    rows_ += kind == '1' ? "<td class=\"n\">" : kind == 'c' ? "<td class=\"code\">" : "<td>";
    rows_ += cell;
    rows_ += "</td>";
  }
  rows_ += "</tr>\n";
}

std::string Table::finish(bool filter) const {
  std::string out;
  if (filter) {
    out += fmt::format(
        "<div class=\"filter\"><label>Filter {0} <input type=\"search\" placeholder=\"words\" "
        "aria-label=\"Filter {0}\"/></label> "
        "<output class=\"muted\">{1} rows</output></div>\n",
        escape_markup(name_), count_ < kMostRows ? count_ : kMostRows);
  }
  out += fmt::format("<table{}><thead><tr>{}</tr></thead><tbody>\n{}</tbody></table>\n",
                     numeric_.size() <= 2 ? " class=\"narrow\"" : "", head_, rows_);
  if (count_ > kMostRows) {
    out += fmt::format(
        "<p class=\"muted\">The first {} of {} rows; all of them are in the result lines.</p>\n",
        grouped(kMostRows), grouped(count_));
  }
  return out;
}

std::string page(std::string_view title, std::string_view subtitle, std::string_view body,
                 std::string_view data) {
  std::string out;
  out += fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<meta "
      "name=\"viewport\" content=\"width=device-width, "
      "initial-scale=1\"/>\n<title>{}</title>\n<style>",
      escape_markup(title));
  out += kStyle;
  out += fmt::format("</style>\n</head>\n<body>\n<header><h1>{}</h1><p>{}</p></header>\n<main>\n",
                     escape_markup(title), escape_markup(subtitle));
  out += body;
  out += "</main>\n<script type=\"application/json\" id=\"data\">";
  out += escape_script(data);
  out += "</script>\n<script>";
  out += kScript;
  out += "</script>\n</body>\n</html>\n";
  return out;
}

}  // namespace twinwalk::reports
