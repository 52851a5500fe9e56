#ifndef TWINWALK_HARNESS_TRACE_RESULT_LINE_H_
#define TWINWALK_HARNESS_TRACE_RESULT_LINE_H_

// The result schema, version 1: what `run --json` prints and what reports read.

#include <cstdint>
#include <string>

namespace twinwalk {

struct ResultLine {
  std::string trace;     // path as given on the command line
  std::uint32_t op = 0;  // index of the operation in its trace, from 0
  unsigned vcpu = 0;
  std::string verb, subject, profile, verdict, cls, field, got, allowed, rule;
  // Beside a revision of before (.ci/pull-request): "new", or "unchanged" if that one has it too.
  // Empty, and not in the line, where nobody compared.
  std::string baseline;
};

struct RunSummary {
  std::uint64_t traces = 0, ops = 0, checks = 0, agree = 0, diverge = 0, skip = 0, unspecified = 0,
                unicorn_checks = 0;
};

std::string to_json(const ResultLine&);  // one line, no newline; keys in schema order
std::string to_json(const RunSummary&);  // {"summary":{...}}

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_TRACE_RESULT_LINE_H_
