#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <iterator>

#include "harness/trace/print.h"
#include "harness/trace/x86.h"
#include "reports/chart.h"
#include "reports/escape.h"

namespace twinwalk::reports {
namespace {

constexpr double kBoxWidth = 376, kBoxHeight = 74, kGapX = 40, kGapY = 26, kTop = 30, kPad = 12,
                 kOutcomeHeight = 40, kLineHeight = 17, kNestedHead = 24;
constexpr std::size_t kMostWords = 46;  // characters that fit a box

std::string table_name(unsigned level) {
  static constexpr const char* kNames[] = {"?", "PT", "PD", "PDPT", "PML4", "PML5"};
  return kNames[level <= 5 ? level : 0];
}

std::string fitted(const std::string& text) {
  return escape_markup(text.size() <= kMostWords ? text : text.substr(0, kMostWords - 3) + "...");
}

// Frame and named bits; of an entry that is not present none means anything.
std::string decoded(std::uint64_t entry) {
  if (!(entry & pte::kP)) return "not present";
  const std::string bits = entry_text(entry & ~pte::kAddressMask);
  return fmt::format("frame {:#x}: {}", entry & pte::kAddressMask, bits);
}

bool same(const WalkLevel& a, const WalkLevel& b) {
  return a.level == b.level && a.table_gpa == b.table_gpa && a.index == b.index &&
         a.entry == b.entry;
}
bool same(const NestedLines& a, const NestedLines& b) {
  return a.title == b.title && a.lines == b.lines;
}

void draw_box(std::string& out, double x, double y, const WalkLevel& w, bool differs) {
  auto to = std::back_inserter(out);
  fmt::format_to(to,
                 "<g transform=\"translate({} {})\"><rect class=\"box{}\" width=\"{}\" "
                 "height=\"{}\" rx=\"6\"/>",
                 x, y, differs ? " differs" : "", kBoxWidth, kBoxHeight);
  fmt::format_to(to, "<text class=\"head\" x=\"{}\" y=\"20\">{} at {:#x}, entry {}</text>", kPad,
                 table_name(w.level), w.table_gpa, w.index);
  if (differs)
    fmt::format_to(to, "<text class=\"mark end\" x=\"{}\" y=\"20\">differs</text>",
                   kBoxWidth - kPad);
  fmt::format_to(to, "<text class=\"mono\" x=\"{}\" y=\"41\">{:#018x}</text>", kPad, w.entry);
  if (!w.note.empty()) {
    fmt::format_to(to, "<text class=\"note end\" x=\"{}\" y=\"41\">{}</text>", kBoxWidth - kPad,
                   escape_markup(w.note.substr(0, 26)));
  }
  fmt::format_to(to, "<text class=\"mono\" x=\"{}\" y=\"61\">{}</text></g>\n", kPad,
                 fitted(decoded(w.entry)));
}

void draw_arrow(std::string& out, double x, double y) {
  const double middle = x + kBoxWidth / 2;
  fmt::format_to(std::back_inserter(out),
                 "<path class=\"arrow\" d=\"M{0} {1} V{2} m-4 -5 l4 5 l4 -5\"/>\n", middle, y + 3,
                 y + kGapY - 3);
}

// The lines that a nested walk has room for; 0 if there is none.
std::size_t lines_of(const NestedLines& nested) {
  return nested.title.empty() ? 0 : std::max<std::size_t>(1, nested.lines.size());
}
double height_of(std::size_t lines) {
  return lines == 0 ? 0 : kNestedHead + kLineHeight * static_cast<double>(lines) + 8;
}

void draw_nested(std::string& out, double x, double y, const NestedLines& nested, double height,
                 bool differs) {
  auto to = std::back_inserter(out);
  fmt::format_to(to,
                 "<g transform=\"translate({} {})\"><rect class=\"nested{}\" width=\"{}\" "
                 "height=\"{}\" rx=\"6\"/><text class=\"head\" x=\"{}\" y=\"18\">{}</text>",
                 x, y, differs ? " differs" : "", kBoxWidth, height, kPad, fitted(nested.title));
  if (differs)
    fmt::format_to(to, "<text class=\"mark end\" x=\"{}\" y=\"18\">differs</text>",
                   kBoxWidth - kPad);
  for (std::size_t i = 0; i < nested.lines.size(); ++i) {
    fmt::format_to(to, "<text class=\"mono\" x=\"{}\" y=\"{}\">{}</text>", kPad,
                   kNestedHead + kLineHeight * (static_cast<double>(i) + 0.75),
                   fitted(nested.lines[i]));
  }
  out += "</g>\n";
}

// Where each row of the picture stands: rows of all walks are level with each other.
struct Rows {
  std::vector<double> nested, box;  // y of each; the last element is below the deepest walk
  std::vector<double> height;       // of the nested walk above the box
  double end = 0;
};

Rows rows_of(const std::vector<Walk>& walks) {
  std::size_t deepest = 0;
  for (const Walk& w : walks) deepest = std::max(deepest, w.levels.size());
  Rows rows;
  double y = kTop;
  for (std::size_t l = 0; l <= deepest; ++l) {
    std::size_t lines = 0;
    for (const Walk& w : walks) {
      if (l < w.levels.size()) lines = std::max(lines, lines_of(w.levels[l].nested));
      if (l == w.levels.size()) lines = std::max(lines, lines_of(w.last));
    }
    rows.nested.push_back(y);
    rows.height.push_back(height_of(lines));
    if (lines != 0) y += height_of(lines) + kGapY;
    rows.box.push_back(y);
    if (l < deepest) y += kBoxHeight + kGapY;
  }
  rows.end = y + kOutcomeHeight;
  return rows;
}

}  // namespace

std::string walk_picture(const std::vector<Walk>& walks) {
  if (walks.empty()) return "";
  const Rows rows = rows_of(walks);
  const auto count = static_cast<double>(walks.size());
  const double width = count * kBoxWidth + (count - 1) * kGapX + 4, height = rows.end + 4;

  std::string out;
  auto to = std::back_inserter(out);
  fmt::format_to(to,
                 "<div class=\"wide\"><svg class=\"walks\" style=\"width:{0}px\" viewBox=\"0 0 {0} "
                 "{1}\" role=\"img\" aria-label=\"The walks side by side\">\n",
                 width, height);
  for (std::size_t i = 0; i < walks.size(); ++i) {
    const Walk& walk = walks[i];
    const double x = 2 + static_cast<double>(i) * (kBoxWidth + kGapX);
    fmt::format_to(to, "<text class=\"title\" x=\"{}\" y=\"18\">{}</text>\n", x,
                   escape_markup(walk.title));
    const Walk& first = walks[0];
    const auto nested_above = [&](std::size_t row, const NestedLines& own,
                                  const NestedLines& other) {
      if (own.title.empty()) return;
      draw_nested(out, x, rows.nested[row], own, rows.height[row],
                  i > 0 && !other.title.empty() && !same(own, other));
      draw_arrow(out, x, rows.nested[row] + rows.height[row]);
    };
    for (std::size_t l = 0; l < walk.levels.size(); ++l) {
      const bool both = l < first.levels.size();
      const WalkLevel& level = walk.levels[l];
      nested_above(l, level.nested, both ? first.levels[l].nested : NestedLines{});
      draw_box(out, x, rows.box[l], level, i > 0 && (!both || !same(level, first.levels[l])));
      draw_arrow(out, x, rows.box[l] + kBoxHeight);
    }
    const std::size_t after = walk.levels.size();
    nested_above(after, walk.last, first.last);
    const bool differs = i > 0 && walk.outcome != walks[0].outcome;
    fmt::format_to(
        to,
        "<g transform=\"translate({} {})\"><rect class=\"result{}\" width=\"{}\" height=\"{}\" "
        "rx=\"20\"/><text class=\"mono mid\" x=\"{}\" y=\"25\">{}</text></g>\n",
        x, rows.box[after], differs ? " differs" : "", kBoxWidth, kOutcomeHeight, kBoxWidth / 2,
        fitted(walk.outcome));
  }
  out += "</svg></div>\n";
  return out;
}

}  // namespace twinwalk::reports
