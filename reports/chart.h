#ifndef TWINWALK_REPORTS_CHART_H_
#define TWINWALK_REPORTS_CHART_H_

// Pictures as inline SVG. Colours come from the page's style, so they follow light and dark.

#include <cstdint>
#include <string>
#include <vector>

#include "reports/fuzz_report.h"

namespace twinwalk::reports {

struct Point {
  double x, y;
};

// A line over time with both axes from zero. `points` is sorted by x; `x_unit` stands at the end of
// the x axis. Without at least two points: a paragraph that says so.
std::string line_chart(const std::string& title, const std::string& x_unit,
                       std::vector<Point> points);

// One panel a level. Rows: roles; columns: operations. Shade: how often, on a logarithmic scale;
// reached or not, if no count is above 1.
std::string heat_map(const StateMap& states);

// Walks beside each other, root at the top; what differs from the first walk is marked.
std::string walk_picture(const std::vector<Walk>& walks);

// "950", "12.3k", "4.56M"
std::string short_number(double value);
// "1,234,567"
std::string grouped(std::uint64_t value);

}  // namespace twinwalk::reports

#endif  // TWINWALK_REPORTS_CHART_H_
