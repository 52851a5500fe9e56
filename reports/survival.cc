#include "reports/survival.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>

#include "reports/escape.h"

namespace twinwalk::reports {
namespace {

constexpr double kWidth = 760, kHeight = 260, kLeft = 52, kRight = 120, kTop = 12, kBottom = 30;
constexpr double kFirst = 0.01;  // seconds at the left edge: nothing is seen sooner
constexpr double kLabelGap = 14;

class Plane {
 public:
  explicit Plane(double most) : decades_(std::log10(std::max(most, 10 * kFirst) / kFirst)) {}

  double x(double seconds) const {
    const double at = std::log10(std::max(seconds, kFirst) / kFirst);
    return kLeft + (kWidth - kLeft - kRight) * std::min(at / decades_, 1.0);
  }
  static double y(double part) { return kTop + (kHeight - kTop - kBottom) * (1 - part); }
  double decades() const { return decades_; }

 private:
  double decades_;
};

std::string axes(const Plane& plane) {
  std::string out;
  auto to = std::back_inserter(out);
  for (const unsigned percent : {0u, 25u, 50u, 75u, 100u}) {
    const double y = Plane::y(percent / 100.0);
    fmt::format_to(to,
                   "<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/><text "
                   "class=\"tick end\" x=\"{}\" y=\"{:.1f}\">{} %</text>\n",
                   kLeft, kWidth - kRight, y, y, kLeft - 8, y + 4, percent);
  }
  for (int power = 0; power <= plane.decades(); ++power) {
    const double seconds = kFirst * std::pow(10, power);
    fmt::format_to(to, "<text class=\"tick mid\" x=\"{:.1f}\" y=\"{}\">{:g} s</text>\n",
                   plane.x(seconds), kHeight - 8, seconds);
  }
  return out;
}

std::string steps(const Plane& plane, const std::vector<Point>& points, double end) {
  std::string out = fmt::format("{:.1f},{:.1f}", plane.x(0), Plane::y(1));
  auto to = std::back_inserter(out);
  double before = 1;
  for (const Point& p : points) {
    fmt::format_to(to, " {:.1f},{:.1f} {:.1f},{:.1f}", plane.x(p.x), Plane::y(before), plane.x(p.x),
                   Plane::y(p.y));
    before = p.y;
  }
  fmt::format_to(to, " {:.1f},{:.1f}", plane.x(end), Plane::y(before));
  return out;
}

}  // namespace

std::vector<Point> survival(std::vector<TrialEnd> ends) {
  std::sort(ends.begin(), ends.end(),
            [](const TrialEnd& a, const TrialEnd& b) { return a.seconds < b.seconds; });
  std::vector<Point> out = {{0, 1}};
  for (std::size_t i = 0; i < ends.size();) {
    const double seconds = ends[i].seconds;
    const auto waiting = static_cast<double>(ends.size() - i);
    double happened = 0;
    for (; i < ends.size() && ends[i].seconds == seconds; ++i) happened += ends[i].happened;
    if (happened > 0) out.push_back({seconds, out.back().y * (1 - happened / waiting)});
  }
  return out;
}

double median_time(const std::vector<TrialEnd>& ends) {
  for (const Point& p : survival(ends)) {
    if (p.y <= 0.5) return p.x;
  }
  return -1;
}

std::string survival_chart(const std::string& title, const std::vector<SurvivalCurve>& curves) {
  double end = 0;
  for (const SurvivalCurve& curve : curves) {
    for (const TrialEnd& e : curve.ends) end = std::max(end, e.seconds);
  }
  const Plane plane(end);
  std::string out = fmt::format(
      "<figure class=\"chart wide\"><figcaption>{0}</figcaption>\n<svg viewBox=\"0 0 {1} {2}\" "
      "width=\"{1}\" role=\"img\" aria-label=\"{0}\">\n",
      escape_markup(title), kWidth, kHeight);
  out += axes(plane);
  std::vector<double> labels;
  for (std::size_t i = 0; i < curves.size(); ++i) {
    const std::vector<Point> points = survival(curves[i].ends);
    fmt::format_to(std::back_inserter(out), "<polyline class=\"curve c{}\" points=\"{}\"/>\n", i,
                   steps(plane, points, end));
    // Beside its end, below the label of whichever curve ends as high.
    double y = Plane::y(points.back().y) + 4;
    for (const double taken : labels) {
      if (std::abs(taken - y) < kLabelGap) y = taken - kLabelGap;
    }
    labels.push_back(y);
    fmt::format_to(std::back_inserter(out),
                   "<text class=\"name c{}\" x=\"{}\" y=\"{:.1f}\">{}</text>\n", i,
                   kWidth - kRight + 8, y, escape_markup(curves[i].name));
  }
  return out + "</svg></figure>\n";
}

}  // namespace twinwalk::reports
