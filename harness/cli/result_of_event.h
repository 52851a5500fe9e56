#ifndef TWINWALK_HARNESS_CLI_RESULT_OF_EVENT_H_
#define TWINWALK_HARNESS_CLI_RESULT_OF_EVENT_H_

#include <string>

#include "harness/checker.h"
#include "harness/trace/result_line.h"

namespace twinwalk::cli {

// The result line of something that the checker said of an operation of `trace`, which is called
// `name`.
ResultLine line_of(const std::string& name, const SubjectInfo& info, const Trace& trace,
                   const CheckEvent& event);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_RESULT_OF_EVENT_H_
