#ifndef TWINWALK_REPORTS_SAMPLE_REPORT_H_
#define TWINWALK_REPORTS_SAMPLE_REPORT_H_

// Made-up data for golden files: every part of a report once, with text that has to be escaped.

#include "reports/fuzz_report.h"
#include "reports/results.h"

namespace twinwalk::reports::testing {

FuzzReport sample_fuzz_report();
Results sample_results();

}  // namespace twinwalk::reports::testing

#endif  // TWINWALK_REPORTS_SAMPLE_REPORT_H_
