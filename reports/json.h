#ifndef TWINWALK_REPORTS_JSON_H_
#define TWINWALK_REPORTS_JSON_H_

// The data of a report as JSON, keys in a fixed order. 64-bit numbers that carry bits (entries,
// addresses) are hex strings, because JSON readers hold numbers as doubles.

#include <string>

#include "reports/fuzz_report.h"
#include "reports/results.h"

namespace twinwalk::reports {

std::string to_json(const FuzzReport& report);
std::string to_json(const Results& results);

}  // namespace twinwalk::reports

#endif  // TWINWALK_REPORTS_JSON_H_
