#ifndef TWINWALK_REPORTS_ZOO_TABLE_H_
#define TWINWALK_REPORTS_ZOO_TABLE_H_

// Trials of the zoo, put together by exhibit.

#include <string>
#include <vector>

#include "reports/results.h"
#include "reports/survival.h"

namespace twinwalk::reports {

struct ZooRow {
  std::string bug;
  bool control = false;
  std::vector<const ZooLine*> trials;
  std::vector<TrialEnd> reach, trigger, detect;  // of each trial whose time is known
  std::uint64_t detections() const;
  // A bug: each trial detected it. A control: none did, and it happened.
  bool is_good() const;
  // What its detections say: "audit (audit-role), rule own-checks, 4 operations"; more than one, if
  // trials differ, in the order of their number.
  std::string ways() const;
};

// In the order of their first lines. `lines` stays where it is while the rows live.
std::vector<ZooRow> zoo_rows(const std::vector<ZooLine>& lines);
// Of all bugs: reached, triggered, detected.
std::vector<SurvivalCurve> zoo_curves(const std::vector<ZooRow>& rows);
// "0.4 s"; "-" where it did not happen in half of the trials.
std::string median_text(const std::vector<TrialEnd>& ends);

}  // namespace twinwalk::reports

#endif  // TWINWALK_REPORTS_ZOO_TABLE_H_
