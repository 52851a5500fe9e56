#include <fmt/format.h>

#include <iterator>

#include "harness/trace/outcome.h"
#include "harness/trace/x86.h"

namespace twinwalk {
namespace {

std::string error_code_text(std::uint32_t code) {
  std::string text;
  for (const BitName& b : pfec::kNames) {
    if (!(code & b.mask)) continue;
    if (!text.empty()) text += '|';
    text += b.name;
    code &= ~static_cast<std::uint32_t>(b.mask);
  }
  if (code || text.empty()) {
    if (!text.empty()) text += '|';
    fmt::format_to(std::back_inserter(text), "{:#x}", code);
  }
  return text;
}

}  // namespace

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
      fmt::format_to(out, " ec={} cr2={:#x}", error_code_text(o.error_code), o.cr2);
      break;
    case OutcomeKind::kMmio:
      fmt::format_to(out, " {} gpa={:#x}", o.write ? "write" : "read", o.gpa[0]);
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
