#ifndef TWINWALK_HARNESS_CLI_CONFORM_FINDINGS_H_
#define TWINWALK_HARNESS_CLI_CONFORM_FINDINGS_H_

// What a conformance run makes of a case that failed on a real MMU: the smallest trace that fails
// there in the same way, and how often it does.

#include <span>
#include <string>
#include <vector>

#include "harness/subject.h"
#include "harness/trace/op.h"
#include "kvm_runner/conform.h"

namespace twinwalk::cli {

struct ConformFinding {
  std::string cls;  // a class of divergence, "not-reproduced", or "not-replayed" (an interrupt)
  std::string feature, mode, case_name;
  Trace trace;                           // minimised on that subject
  std::string got, allowed, rule;        // of its divergence
  unsigned reproduced = 0, replays = 0;  // in so many of so many runs the class was the same
};

// One a row and class of divergence, in their order. `seconds` bounds the search for smaller ones,
// all together. After an interrupt cases are given as they are.
std::vector<ConformFinding> find_smallest(Subject& subject, std::span<const ConformLine> lines,
                                          double seconds);

// {"finding","class","subject","host","mode","feature","case","got","allowed","rule","reproduced",
// "replays"}; no newline. `file`: where its trace is.
std::string to_json(const ConformFinding& finding, const SubjectInfo& info, const std::string& host,
                    const std::string& file);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_CONFORM_FINDINGS_H_
