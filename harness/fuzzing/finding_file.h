#ifndef TWINWALK_HARNESS_FUZZING_FINDING_FILE_H_
#define TWINWALK_HARNESS_FUZZING_FINDING_FILE_H_

// A finding on disk: OUT/findings/NAME.walk, and its result line beside it.

#include <string>

#include "harness/checker.h"
#include "harness/fuzzing/output.h"
#include "harness/subject.h"
#include "harness/trace/result_line.h"

namespace twinwalk::fuzz {

// Of a divergence; it names no trace yet.
ResultLine line_of(const CheckEvent& event, const SubjectInfo& subject);

// Writes both files, atomically. Returns "" or why not.
std::string write_finding(const Output& output, const std::string& name, const Trace& trace,
                          ResultLine line);
// The files of a finding that goes by another name now.
void remove_finding(const Output& output, const std::string& name);

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_FINDING_FILE_H_
