#ifndef TWINWALK_REPORTS_SURVIVAL_H_
#define TWINWALK_REPORTS_SURVIVAL_H_

// How long what is hunted survives: Kaplan and Meier's estimate over trials of which some end
// before anything happened.

#include <string>
#include <vector>

#include "reports/chart.h"

namespace twinwalk::reports {

// The end of one trial: what was waited for, or the end of the wait.
struct TrialEnd {
  double seconds = 0;
  bool happened = false;
};

// The part that survives, from {0, 1} on: a point at each time that something happened, x in
// seconds, y in 0..1. It stays at the last point's until the longest trial ends.
std::vector<Point> survival(std::vector<TrialEnd> ends);
// The time by which half has happened; negative if it has not.
double median_time(const std::vector<TrialEnd>& ends);

struct SurvivalCurve {
  std::string name;
  std::vector<TrialEnd> ends;
};
// Steps over time, which is logarithmic, for most things happen at once and the rest takes long.
std::string survival_chart(const std::string& title, const std::vector<SurvivalCurve>& curves);

}  // namespace twinwalk::reports

#endif  // TWINWALK_REPORTS_SURVIVAL_H_
