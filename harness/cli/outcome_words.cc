#include "harness/cli/outcome_words.h"

#include <fmt/format.h>

#include <initializer_list>
#include <string_view>
#include <utility>

#include "harness/trace/x86.h"

namespace twinwalk::cli {
namespace {

struct Word {
  bool said;
  std::string_view word;
};

// "read and write", "read, write and execute".
std::string joined(std::initializer_list<Word> words, std::string_view none) {
  std::string text;
  unsigned left = 0;
  for (const Word& w : words) left += w.said;
  if (left == 0) return std::string(none);
  for (const Word& w : words) {
    if (!w.said) continue;
    if (!text.empty()) text += left == 1 ? " and " : ", ";
    text += w.word;
    --left;
  }
  return text;
}

std::string page_fault(std::uint32_t code, std::uint64_t cr2) {
  std::string text = fmt::format("page fault: a {} by {} at {:#x}; ",
                                 (code & pfec::kI) != 0   ? "fetch"
                                 : (code & pfec::kW) != 0 ? "write"
                                                          : "read",
                                 (code & pfec::kU) != 0 ? "user mode" : "supervisor mode", cr2);
  if ((code & pfec::kP) == 0) return text + "an entry is not present";
  if ((code & pfec::kRsvd) != 0) return text + "an entry has a reserved bit set";
  text += "the entries do not allow it";
  if ((code & pfec::kPk) != 0) text += ", and the protection key is among what forbids it";
  return text;
}

// SDM 3C §"Exit Qualification for EPT Violations".
std::string ept_violation(const Outcome& o) {
  const std::uint64_t q = o.qualification;
  const auto has = [q](std::uint64_t bit) { return (q & bit) != 0; };
  std::string text = fmt::format(
      "EPT violation: a {} ",
      joined({{has(eqx::kRead), "read"}, {has(eqx::kWrite), "write"}, {has(eqx::kFetch), "fetch"}},
             "use"));
  if (!has(eqx::kGvaValid)) {
    text += fmt::format("at gpa {:#x} for no linear address", o.gpa[0]);
  } else if (has(eqx::kFinal)) {
    text +=
        fmt::format("at gpa {:#x}, which linear address {:#x} is translated to", o.gpa[0], o.cr2);
  } else {
    text +=
        fmt::format("of the guest's paging-structure entry at gpa {:#x}, for linear address {:#x}",
                    o.gpa[0], o.cr2);
  }
  text += "; " + (has(eqx::kReadable | eqx::kWritable | eqx::kExecutable | eqx::kUserExecutable)
                      ? "its EPT entries allow to " +
                            joined({{has(eqx::kReadable), "read"},
                                    {has(eqx::kWritable), "write"},
                                    {has(eqx::kExecutable), "execute"},
                                    {has(eqx::kUserExecutable), "execute in user mode"}},
                                   "")
                      : "its EPT entries allow nothing, or one of them is not present");
  if (has(eqx::kFinal) && has(eqx::kGuestUser | eqx::kGuestWritable | eqx::kGuestNx)) {
    text += fmt::format("; the guest's own entries make it {}, {}{}",
                        has(eqx::kGuestUser) ? "user" : "supervisor",
                        has(eqx::kGuestWritable) ? "writable" : "read-only",
                        has(eqx::kGuestNx) ? ", not executable" : "");
  }
  return text;
}

// APM 2 §"Nested versus Guest Page Faults, Fault Ordering".
std::string nested_fault(const Outcome& o) {
  const std::uint64_t code = o.qualification;
  return fmt::format(
      "nested page fault: a {} {} gpa {:#x}; {}",
      (code & pfec::kI) != 0   ? "fetch"
      : (code & pfec::kW) != 0 ? "write"
                               : "read",
      (code & npfec::kTable) != 0 ? "of the guest's paging-structure entry at" : "at", o.gpa[0],
      (code & pfec::kP) == 0      ? "an entry of the nested tables is not present"
      : (code & pfec::kRsvd) != 0 ? "an entry of the nested tables has a reserved bit set"
                                  : "the nested tables do not allow it");
}

}  // namespace

std::string in_words(const Outcome& o) {
  switch (o.kind) {
    case OutcomeKind::kPageFault:
      return page_fault(o.error_code, o.cr2);
    case OutcomeKind::kEptViolation:
      return ept_violation(o);
    case OutcomeKind::kEptMisconfig:
      return fmt::format("EPT misconfiguration: an entry that translates gpa {:#x} is malformed",
                         o.gpa[0]);
    case OutcomeKind::kNestedFault:
      return nested_fault(o);
    case OutcomeKind::kPmlFull:
      return "the page-modification log is full: nothing was accessed, no flag was set";
    default:
      return "";
  }
}

}  // namespace twinwalk::cli
