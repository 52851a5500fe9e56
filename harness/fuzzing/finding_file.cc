#include "harness/fuzzing/finding_file.h"

#include <unistd.h>

#include "harness/fuzzing/atomic_file.h"
#include "harness/trace/print.h"

namespace twinwalk::fuzz {

ResultLine line_of(const CheckEvent& event, const SubjectInfo& subject) {
  ResultLine line;
  line.op = event.op;
  line.vcpu = event.what.what.vcpu;
  line.verb = name_of(event.what.what.verb);
  line.subject = subject.name;
  line.profile = name_of(subject.profile);
  line.verdict = name_of(event.verdict.kind);
  line.cls = name_of(event.verdict.divergence);
  line.field = event.verdict.field;
  line.got = event.verdict.got;
  line.allowed = event.verdict.allowed;
  if (event.verdict.rule) line.rule = event.verdict.rule->id;
  return line;
}

std::string write_finding(const Output& output, const std::string& name, const Trace& trace,
                          ResultLine line) {
  line.trace = name + ".walk";
  const std::string stem = output.findings() + "/" + name;
  // The trace last: a .walk without its line is never seen.
  std::string why = write_atomically(stem + ".json", to_json(line) + "\n");
  if (why.empty()) why = write_atomically(stem + ".walk", print(trace));
  return why;
}

void remove_finding(const Output& output, const std::string& name) {
  for (const char* suffix : {".walk", ".json"})
    ::unlink((output.findings() + "/" + name + suffix).c_str());
}

}  // namespace twinwalk::fuzz
