#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <iterator>

#include "reports/chart.h"
#include "reports/escape.h"

namespace twinwalk::reports {
namespace {

constexpr std::uint64_t kThresholds[] = {1, 4, 16, 64, 256, 1024};
constexpr std::size_t kShades = std::size(kThresholds);  // 0: never

std::size_t shade(std::uint64_t count) {
  std::size_t s = 0;
  while (s < kShades && count >= kThresholds[s]) ++s;
  return s;
}

std::size_t longest(const std::vector<std::string>& names) {
  std::size_t most = 0;
  for (const std::string& n : names) most = std::max(most, n.size());
  return most;
}

struct Geometry {
  double cell, left, top, row_gap = 26;
  explicit Geometry(const StateMap& s) {
    cell = s.operations.size() <= 30 ? 22 : 14;
    left = 16 + 7.0 * static_cast<double>(longest(s.roles));
    top = 14 + 5.2 * static_cast<double>(longest(s.operations));
  }
};

std::string legend() {
  std::string out = "<p class=\"legend\">times: ";
  for (std::size_t s = 0; s <= kShades; ++s) {
    const std::string label = s == 0         ? "never"
                              : s == kShades ? fmt::format("{} and more", kThresholds[s - 1])
                              : s == 1
                                  ? "1 to 3"
                                  : fmt::format("{} to {}", kThresholds[s - 1], kThresholds[s] - 1);
    out += fmt::format(
        "<span><svg class=\"swatch\" viewBox=\"0 0 14 14\" aria-hidden=\"true\"><rect "
        "class=\"h{}\" x=\"1\" y=\"1\" width=\"12\" height=\"12\" rx=\"2\"/></svg> {}</span>",
        s, label);
  }
  return out + "</p>\n";
}

}  // namespace

std::string heat_map(const StateMap& s) {
  const std::size_t cells = s.roles.size() * s.levels.size() * s.operations.size();
  if (cells == 0) return "<p class=\"muted\">No MMU states were recorded.</p>\n";
  const Geometry g(s);
  const auto columns = static_cast<double>(s.operations.size()),
             rows = static_cast<double>(s.roles.size());
  const double width = g.left + columns * g.cell + 60;
  const double height =
      g.top + static_cast<double>(s.levels.size()) * (g.row_gap + rows * g.cell) + 4;

  std::string out;
  auto to = std::back_inserter(out);
  std::size_t reached = 0;
  for (const std::uint64_t c : s.counts) reached += c != 0;
  fmt::format_to(to, "<p>{} of {} combinations of role, level and operation were reached.</p>\n",
                 reached, cells);
  out += legend();
  fmt::format_to(to,
                 "<div class=\"wide\"><svg class=\"heat\" style=\"width:{0:.0f}px\" viewBox=\"0 0 "
                 "{0:.0f} {1:.0f}\" role=\"img\" aria-label=\"MMU states reached\">\n",
                 width, height);
  for (std::size_t o = 0; o < s.operations.size(); ++o) {
    const double x = g.left + (static_cast<double>(o) + 0.6) * g.cell;
    fmt::format_to(
        to, "<text class=\"tick\" transform=\"translate({:.1f} {:.1f}) rotate(-55)\">{}</text>\n",
        x, g.top + 8, escape_markup(s.operations[o]));
  }
  double y = g.top;
  for (std::size_t l = 0; l < s.levels.size(); ++l) {
    fmt::format_to(to, "<text class=\"group\" x=\"4\" y=\"{:.1f}\">{}</text>\n", y + g.row_gap - 7,
                   escape_markup(s.levels[l]));
    y += g.row_gap;
    for (std::size_t r = 0; r < s.roles.size(); ++r, y += g.cell) {
      fmt::format_to(to, "<text class=\"tick end\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n",
                     g.left - 8, y + g.cell * 0.7, escape_markup(s.roles[r]));
      for (std::size_t o = 0; o < s.operations.size(); ++o) {
        const std::uint64_t count = s.at(r, l, o);
        fmt::format_to(to,
                       "<rect class=\"h{}\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.0f}\" "
                       "height=\"{:.0f}\" rx=\"2\"><title>{}, {}, {}: {}</title></rect>",
                       shade(count), g.left + static_cast<double>(o) * g.cell + 1, y + 1,
                       g.cell - 2, g.cell - 2, escape_markup(s.roles[r]),
                       escape_markup(s.levels[l]), escape_markup(s.operations[o]), grouped(count));
      }
      out += '\n';
    }
  }
  out += "</svg></div>\n";
  return out;
}

}  // namespace twinwalk::reports
