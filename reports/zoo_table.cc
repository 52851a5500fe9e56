#include "reports/zoo_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <optional>

namespace twinwalk::reports {
namespace {

// Who crashed had reached it, nobody knows when: such a trial is left out.
void add(std::vector<TrialEnd>& ends, bool happened, const std::optional<double>& seconds,
         double whole) {
  if (seconds) {
    ends.push_back({*seconds, true});
  } else if (!happened) {
    ends.push_back({whole, false});
  }
}

std::string way_of(const ZooLine& z) {
  std::string out = z.by;
  if (!z.cls.empty()) out += " (" + z.cls + ")";
  if (!z.rule.empty()) out += ", rule " + z.rule;
  if (z.operations)
    out += fmt::format(", {} operation{}", z.operations, z.operations == 1 ? "" : "s");
  return out;
}

}  // namespace

std::uint64_t ZooRow::detections() const {
  return static_cast<std::uint64_t>(
      std::count_if(trials.begin(), trials.end(), [](const ZooLine* z) { return z->detected; }));
}

bool ZooRow::is_good() const {
  if (!control) return detections() == trials.size();
  return detections() == 0 &&
         std::all_of(trials.begin(), trials.end(), [](const ZooLine* z) { return z->triggered; });
}

std::string ZooRow::ways() const {
  std::vector<std::string> all;
  for (const ZooLine* z : trials) {
    const std::string way = z->detected ? way_of(*z) : "";
    if (!way.empty() && std::find(all.begin(), all.end(), way) == all.end()) all.push_back(way);
  }
  return fmt::format("{}", fmt::join(all, "; "));
}

std::vector<ZooRow> zoo_rows(const std::vector<ZooLine>& lines) {
  std::vector<ZooRow> rows;
  for (const ZooLine& z : lines) {
    auto row =
        std::find_if(rows.begin(), rows.end(), [&](const ZooRow& r) { return r.bug == z.bug; });
    if (row == rows.end()) row = rows.insert(rows.end(), ZooRow{z.bug, z.control, {}, {}, {}, {}});
    row->trials.push_back(&z);
    add(row->reach, z.reached, z.seconds_to_reach, z.seconds);
    add(row->trigger, z.triggered, z.seconds_to_trigger, z.seconds);
    row->detect.push_back({z.seconds, z.detected});
  }
  return rows;
}

std::vector<SurvivalCurve> zoo_curves(const std::vector<ZooRow>& rows) {
  std::vector<SurvivalCurve> curves = {
      {"not reached", {}}, {"not triggered", {}}, {"not detected", {}}};
  for (const ZooRow& row : rows) {
    if (row.control) continue;
    const std::vector<TrialEnd>* const of[] = {&row.reach, &row.trigger, &row.detect};
    for (std::size_t i = 0; i < curves.size(); ++i)
      curves[i].ends.insert(curves[i].ends.end(), of[i]->begin(), of[i]->end());
  }
  return curves;
}

std::string median_text(const std::vector<TrialEnd>& ends) {
  const double seconds = median_time(ends);
  return seconds < 0 ? "-" : fmt::format("{:.2g} s", seconds);
}

}  // namespace twinwalk::reports
