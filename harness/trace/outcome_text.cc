#include <fmt/format.h>

#include <iterator>

#include "harness/trace/outcome.h"
#include "harness/trace/print.h"
#include "harness/trace/x86.h"

namespace twinwalk {

std::string to_text(const Outcome& o) {
  std::string text(name_of(o.kind));
  auto out = std::back_inserter(text);
  switch (o.kind) {
    case OutcomeKind::kOk:
      if (o.gpa[0] != kUnknownGpa) fmt::format_to(out, " gpa={:#x}", o.gpa[0]);
      if (o.gpa[1] != kUnknownGpa) fmt::format_to(out, ",{:#x}", o.gpa[1]);
      if (o.value) fmt::format_to(out, " value={:#x}", o.value);
      break;
    case OutcomeKind::kPageFault:
      fmt::format_to(out, " ec={} cr2={:#x}", bits_text(o.error_code, pfec::kNames), o.cr2);
      break;
    case OutcomeKind::kMmio:
    case OutcomeKind::kMemoryFault:
      fmt::format_to(out, " {} gpa={:#x}", o.write ? "write" : "read", o.gpa[0]);
      break;
    case OutcomeKind::kEptViolation:
      fmt::format_to(out, " qual={} gpa={:#x}", bits_text(o.qualification, eqx::kNames), o.gpa[0]);
      if (o.qualification & eqx::kGvaValid) fmt::format_to(out, " gva={:#x}", o.cr2);
      break;
    case OutcomeKind::kEptMisconfig:
      fmt::format_to(out, " gpa={:#x}", o.gpa[0]);
      break;
    case OutcomeKind::kNestedFault:
      fmt::format_to(out, " code={} gpa={:#x}", bits_text(o.qualification, npfec::kNames),
                     o.gpa[0]);
      break;
    case OutcomeKind::kSkip:
      fmt::format_to(out, " {}", name_of(o.reason));
      break;
    default:
      break;
  }
  if (o.complaint != Complaint::kNone) {
    fmt::format_to(out, " complaint={}", name_of(o.complaint));
  }
  return text;
}

}  // namespace twinwalk
