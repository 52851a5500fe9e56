#include "harness/cli/result_of_event.h"

namespace twinwalk::cli {

ResultLine line_of(const std::string& name, const SubjectInfo& info, const Trace& trace,
                   const CheckEvent& event) {
  ResultLine line;
  line.trace = name;
  line.op = event.op;
  line.vcpu = event.what.what.vcpu;
  line.verb = name_of(trace.ops[event.op].verb);
  line.subject = info.name;
  line.profile = name_of(info.profile);
  line.verdict = name_of(event.verdict.kind);
  if (event.verdict.kind == VerdictKind::kDiverge) line.cls = name_of(event.verdict.divergence);
  line.field = event.verdict.field;
  line.got = event.verdict.got;
  line.allowed = event.verdict.allowed;
  if (event.verdict.rule != nullptr) line.rule = event.verdict.rule->id;
  return line;
}

}  // namespace twinwalk::cli
