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
  double cell, left, top;
  explicit Geometry(const StateMap& s) {
    cell = s.operations.size() <= 24 ? 22 : 14;
    left = 10 + 6.5 * static_cast<double>(longest(s.roles));
    top = 12 + 5.0 * static_cast<double>(longest(s.operations));
  }
};

std::string key(std::size_t shade, const std::string& label) {
  return fmt::format(
      "<span><svg class=\"swatch\" viewBox=\"0 0 14 14\" aria-hidden=\"true\"><rect class=\"h{}\" "
      "x=\"1\" "
      "y=\"1\" width=\"12\" height=\"12\" rx=\"2\"/></svg> {}</span>",
      shade, label);
}

std::string legend() {
  std::string out = "<p class=\"legend\">Times:" + key(0, "never") + key(1, "1 to 3");
  for (std::size_t s = 2; s < kShades; ++s) {
    out += key(s, fmt::format("{} to {}", kThresholds[s - 1], kThresholds[s] - 1));
  }
  return out + key(kShades, fmt::format("{} and more", kThresholds[kShades - 1])) + "</p>\n";
}

// Where only reached or not is known there are two shades.
constexpr std::size_t kReachedShade = 4;
std::string short_legend() {
  return "<p class=\"legend\">" + key(kReachedShade, "reached") + key(0, "never") + "</p>\n";
}

std::string panel(const StateMap& s, std::size_t level, const Geometry& g, bool counted) {
  const double width = g.left + static_cast<double>(s.operations.size()) * g.cell + 0.7 * g.top;
  const double height = g.top + static_cast<double>(s.roles.size()) * g.cell + 4;
  std::string out;
  auto to = std::back_inserter(out);
  fmt::format_to(
      to,
      "<figure><figcaption>{0}</figcaption><svg class=\"heat\" style=\"width:{1:.0f}px\" "
      "viewBox=\"0 0 {1:.0f} {2:.0f}\" role=\"img\" aria-label=\"MMU states reached, {0}\">\n",
      escape_markup(s.levels[level]), width, height);
  for (std::size_t o = 0; o < s.operations.size(); ++o) {
    fmt::format_to(
        to, "<text class=\"tick\" transform=\"translate({:.1f} {:.1f}) rotate(-50)\">{}</text>\n",
        g.left + (static_cast<double>(o) + 0.6) * g.cell, g.top - 5,
        escape_markup(s.operations[o]));
  }
  for (std::size_t r = 0; r < s.roles.size(); ++r) {
    const double y = g.top + static_cast<double>(r) * g.cell;
    fmt::format_to(to, "<text class=\"tick end\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n", g.left - 8,
                   y + g.cell / 2 + 4, escape_markup(s.roles[r]));
    for (std::size_t o = 0; o < s.operations.size(); ++o) {
      const std::uint64_t count = s.at(r, level, o);
      const std::string said = counted ? grouped(count) : count ? "reached" : "never";
      fmt::format_to(
          to,
          "<rect class=\"h{}\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.0f}\" height=\"{:.0f}\" "
          "rx=\"2\"><title>{}, {}, {}: {}</title></rect>",
          counted ? shade(count)
          : count ? kReachedShade
                  : 0,
          g.left + static_cast<double>(o) * g.cell + 1, y + 1, g.cell - 2, g.cell - 2,
          escape_markup(s.roles[r]), escape_markup(s.levels[level]), escape_markup(s.operations[o]),
          said);
    }
    out += '\n';
  }
  return out + "</svg></figure>\n";
}

}  // namespace

std::string heat_map(const StateMap& s) {
  const std::size_t cells = s.roles.size() * s.levels.size() * s.operations.size();
  if (cells == 0) return "<p class=\"muted\">No MMU states were recorded.</p>\n";
  std::size_t reached = 0;
  std::uint64_t most = 0;
  for (std::size_t i = 0; i < std::min(cells, s.counts.size()); ++i) {
    reached += s.counts[i] != 0;
    most = std::max(most, s.counts[i]);
  }
  if (reached == 0) {
    return fmt::format("<p class=\"muted\">None of {} combinations was reached.</p>\n", cells);
  }
  const bool counted = most > 1;
  const Geometry geometry(s);
  std::string out = fmt::format(
      "<p>{} of {} combinations of role, level and operation were reached.</p>\n", reached, cells);
  out += counted ? legend() : short_legend();
  out += "<div class=\"panels\">\n";
  for (std::size_t l = 0; l < s.levels.size(); ++l) out += panel(s, l, geometry, counted);
  return out + "</div>\n";
}

}  // namespace twinwalk::reports
