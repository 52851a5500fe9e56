#ifndef TWINWALK_REPORTS_HTML_H_
#define TWINWALK_REPORTS_HTML_H_

// Reports for people: one HTML file each, nothing from the network, the data inside as JSON.

#include <string>

#include "reports/fuzz_report.h"
#include "reports/results.h"

namespace twinwalk::reports {

std::string to_html(const FuzzReport& report);
std::string to_html(const Results& results);

}  // namespace twinwalk::reports

#endif  // TWINWALK_REPORTS_HTML_H_
