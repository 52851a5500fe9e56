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

constexpr double kBoxWidth = 330, kBoxHeight = 74, kGapX = 40, kGapY = 26, kTop = 30, kPad = 12,
                 kOutcomeHeight = 40;
constexpr std::size_t kMostWords = 40;  // characters that fit a box

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

// Height of the box that stands at row `level` from the top.
double row_y(std::size_t row) { return kTop + static_cast<double>(row) * (kBoxHeight + kGapY); }

}  // namespace

std::string walk_picture(const std::vector<Walk>& walks) {
  if (walks.empty()) return "";
  std::size_t deepest = 0;
  for (const Walk& w : walks) deepest = std::max(deepest, w.levels.size());
  const auto count = static_cast<double>(walks.size());
  const double width = count * kBoxWidth + (count - 1) * kGapX + 4,
               height = row_y(deepest) + kOutcomeHeight + 4;

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
    for (std::size_t l = 0; l < walk.levels.size(); ++l) {
      const auto& first = walks[0].levels;
      const bool differs = i > 0 && (l >= first.size() || !same(walk.levels[l], first[l]));
      draw_box(out, x, row_y(l), walk.levels[l], differs);
      draw_arrow(out, x, row_y(l) + kBoxHeight);
    }
    const bool differs = i > 0 && walk.outcome != walks[0].outcome;
    fmt::format_to(
        to,
        "<g transform=\"translate({} {})\"><rect class=\"result{}\" width=\"{}\" height=\"{}\" "
        "rx=\"20\"/><text class=\"mono mid\" x=\"{}\" y=\"25\">{}</text></g>\n",
        x, row_y(walk.levels.size()), differs ? " differs" : "", kBoxWidth, kOutcomeHeight,
        kBoxWidth / 2, fitted(walk.outcome));
  }
  out += "</svg></div>\n";
  return out;
}

}  // namespace twinwalk::reports
