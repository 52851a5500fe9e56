#ifndef TWINWALK_REPORTS_CONFORM_MATRIX_H_
#define TWINWALK_REPORTS_CONFORM_MATRIX_H_

// Conformance results as people look at them: for each subject on a host a table, a row for each
// feature and a column for each paging mode.

#include <string>
#include <vector>

#include "reports/results.h"

namespace twinwalk::reports {

struct ConformMatrix {
  struct Row {
    std::string feature;
    std::vector<const ConformLine*> cells;  // one for each mode; null: the feature has none there
  };
  std::string subject, host;
  std::vector<std::string> modes;
  std::vector<Row> rows;
};

// Subjects, hosts, modes and features stand in the order in which they come. Of two lines for one
// cell the later counts. `lines` must outlive the result.
std::vector<ConformMatrix> conform_matrices(const std::vector<ConformLine>& lines);

}  // namespace twinwalk::reports

#endif  // TWINWALK_REPORTS_CONFORM_MATRIX_H_
