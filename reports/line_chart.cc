#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>

#include "reports/chart.h"
#include "reports/escape.h"

namespace twinwalk::reports {
namespace {

constexpr double kWidth = 560, kHeight = 200, kLeft = 52, kRight = 16, kTop = 12, kBottom = 28;
constexpr std::size_t kMostPoints = 400;

// 1, 2 or 5 times a power of ten, so that at most `parts` steps cover `range`.
double step_for(double range, int parts) {
  const double rough = range / parts;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough) return factor * power;
  }
  return 10 * power;
}

struct Axis {
  double step, end;
  explicit Axis(double most) : step(step_for(most > 0 ? most : 1, 5)) {
    end = std::max(step, std::ceil(most / step - 1e-9) * step);
  }
};

// Means of equal runs of points: a peak stays a rise, and the file stays small.
std::vector<Point> thinned(const std::vector<Point>& points) {
  if (points.size() <= kMostPoints) return points;
  std::vector<Point> out;
  for (std::size_t i = 0; i < kMostPoints; ++i) {
    const std::size_t begin = i * points.size() / kMostPoints,
                      end = (i + 1) * points.size() / kMostPoints;
    Point mean{0, 0};
    for (std::size_t k = begin; k < end; ++k) mean.x += points[k].x, mean.y += points[k].y;
    const auto n = static_cast<double>(end - begin);
    out.push_back({mean.x / n, mean.y / n});
  }
  return out;
}

}  // namespace

std::string short_number(double value) {
  static constexpr const char* kUnits[] = {"", "k", "M", "G", "T"};
  std::size_t unit = 0;
  while (std::abs(value) >= 999.5 && unit + 1 < std::size(kUnits)) value /= 1000, ++unit;
  return fmt::format("{:.3g}{}", value, kUnits[unit]);
}

std::string grouped(std::uint64_t value) {
  std::string digits = fmt::format("{}", value);
  for (std::size_t i = digits.size(); i > 3;) digits.insert(i -= 3, ",");
  return digits;
}

std::string line_chart(const std::string& title, const std::string& x_unit,
                       std::vector<Point> points) {
  points.erase(
      std::remove_if(points.begin(), points.end(),
                     [](const Point& p) { return !std::isfinite(p.x) || !std::isfinite(p.y); }),
      points.end());
  if (points.size() < 2) {
    return fmt::format(
        "<figure class=\"chart\"><figcaption>{}</figcaption><p class=\"muted\">Too short a run for "
        "a line.</p></figure>\n",
        escape_markup(title));
  }
  points = thinned(points);
  double most = 0;
  for (const Point& p : points) most = std::max(most, p.y);
  const Axis x(points.back().x), y(most);
  const double x_end = points.back().x > 0 ? points.back().x : 1;
  const double width = kWidth - kLeft - kRight, height = kHeight - kTop - kBottom;
  const auto at_x = [&](double v) { return kLeft + width * v / x_end; };
  const auto at_y = [&](double v) { return kTop + height * (1 - v / y.end); };

  std::string out;
  auto to = std::back_inserter(out);
  fmt::format_to(to,
                 "<figure class=\"chart\"><figcaption>{0}</figcaption>\n<svg viewBox=\"0 0 {1} "
                 "{2}\" role=\"img\" aria-label=\"{0}\">\n",
                 escape_markup(title), kWidth, kHeight);
  for (double v = 0; v <= y.end * 1.0001; v += y.step) {
    fmt::format_to(to,
                   "<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/><text "
                   "class=\"tick end\" x=\"{}\" y=\"{:.1f}\">{}</text>\n",
                   kLeft, kWidth - kRight, at_y(v), at_y(v), kLeft - 8, at_y(v) + 4,
                   short_number(v));
  }
  for (double v = 0; v <= x_end * 1.0001; v += x.step) {
    fmt::format_to(to, "<text class=\"tick mid\" x=\"{:.1f}\" y=\"{}\">{}{}</text>\n", at_x(v),
                   kHeight - 8, short_number(v), v == 0 ? "" : " " + escape_markup(x_unit));
  }
  std::string line;
  for (const Point& p : points)
    fmt::format_to(std::back_inserter(line), "{:.1f},{:.1f} ", at_x(p.x), at_y(p.y));
  line.pop_back();
  fmt::format_to(to,
                 "<polygon class=\"area\" points=\"{:.1f},{:.1f} {} {:.1f},{:.1f}\"/><polyline "
                 "class=\"line\" points=\"{}\"/>\n",
                 at_x(points.front().x), at_y(0), line, at_x(points.back().x), at_y(0), line);
  out += "</svg></figure>\n";
  return out;
}

}  // namespace twinwalk::reports
