#include "harness/cli/outcome_words.h"

#include <gtest/gtest.h>

#include "harness/trace/x86.h"

namespace twinwalk::cli {
namespace {

Outcome of(OutcomeKind kind, std::uint64_t qualification, std::uint64_t gpa = 0x600000) {
  Outcome o;
  o.kind = kind;
  o.qualification = qualification;
  o.gpa[0] = gpa;
  o.cr2 = 0x400000;
  return o;
}

TEST(InWords, PageFaultByItsErrorCode) {
  Outcome o = of(OutcomeKind::kPageFault, 0);
  o.error_code = pfec::kP | pfec::kW | pfec::kU;
  EXPECT_EQ(in_words(o),
            "page fault: a write by user mode at 0x400000; the entries do not allow it");
  o.error_code = pfec::kI;
  EXPECT_EQ(in_words(o),
            "page fault: a fetch by supervisor mode at 0x400000; an entry is not present");
  o.error_code = pfec::kP | pfec::kRsvd;
  EXPECT_EQ(in_words(o),
            "page fault: a read by supervisor mode at 0x400000; an entry has a reserved bit set");
}

TEST(InWords, ViolationOfTheDataPage) {
  EXPECT_EQ(in_words(of(OutcomeKind::kEptViolation,
                        eqx::kWrite | eqx::kReadable | eqx::kExecutable | eqx::kGvaValid |
                            eqx::kFinal | eqx::kGuestUser | eqx::kGuestNx)),
            "EPT violation: a write at gpa 0x600000, which linear address 0x400000 is translated "
            "to; its EPT entries allow to read and execute; the guest's own entries make it user, "
            "read-only, not executable");
}

TEST(InWords, ViolationOfATableAndWithoutLinearAddress) {
  EXPECT_EQ(in_words(of(OutcomeKind::kEptViolation, eqx::kRead | eqx::kWrite | eqx::kGvaValid)),
            "EPT violation: a read and write of the guest's paging-structure entry at gpa "
            "0x600000, for linear address 0x400000; its EPT entries allow nothing, or one of them "
            "is not present");
  EXPECT_EQ(in_words(of(OutcomeKind::kEptViolation, eqx::kRead | eqx::kWritable)),
            "EPT violation: a read at gpa 0x600000 for no linear address; its EPT entries allow to "
            "write");
}

TEST(InWords, NestedPageFault) {
  EXPECT_EQ(in_words(of(OutcomeKind::kNestedFault, npfec::kTable | pfec::kP | pfec::kW | pfec::kU)),
            "nested page fault: a write of the guest's paging-structure entry at gpa 0x600000; the "
            "nested tables do not allow it");
  EXPECT_EQ(in_words(of(OutcomeKind::kNestedFault, npfec::kFinal | pfec::kU | pfec::kI)),
            "nested page fault: a fetch at gpa 0x600000; an entry of the nested tables is not "
            "present");
}

TEST(InWords, NothingOfWhatHasNoCode) {
  EXPECT_EQ(in_words(of(OutcomeKind::kOk, 0)), "");
  EXPECT_EQ(in_words(of(OutcomeKind::kGp, 0)), "");
}

}  // namespace
}  // namespace twinwalk::cli
