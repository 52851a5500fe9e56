#ifndef TWINWALK_HARNESS_CLI_SERIAL_REPORT_H_
#define TWINWALK_HARNESS_CLI_SERIAL_REPORT_H_

// What a machine said over its serial port while it ran the image of the verb `image`, judged here.

#include <string>
#include <string_view>

#include "reports/results.h"

namespace twinwalk::cli {

// Whether the text has lines of harness/trace/serial_log.h.
bool is_serial_log(std::string_view text);

// Judges every trace of the log that was run, by the reference `spec`, and appends the result
// lines. A trace that was begun and not answered is the machine's death, a divergence; damaged
// lines are counted as skipped. Throws Failure, with the line, if the log says of no host or of no
// trace.
void judge_serial_log(std::string_view text, const std::string& path, reports::Results& out);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_SERIAL_REPORT_H_
