#include "harness/cli/walk_table.h"

#include <gtest/gtest.h>

#include "harness/trace/x86.h"
#include "oracle/rules.h"

namespace twinwalk::cli {
namespace {

namespace rules = oracle::rules;

constexpr std::uint64_t kAll = pte::kP | pte::kW | pte::kU;

// A walk of four entries, all with `upper` but the last, which is `leaf`.
Path path_of(std::uint64_t upper, std::uint64_t leaf) {
  Path path;
  path.count = 4;
  for (unsigned i = 0; i < 3; ++i) path.entry[i] = upper;
  path.entry[3] = leaf;
  return path;
}

const Rule* rule_of(AccessKind kind, std::uint8_t cpl, std::uint64_t cr4, std::uint32_t error_code,
                    const Path& path) {
  oracle::AccessQuery query;
  query.gva = 0x5000;
  query.kind = kind;
  query.registers.cpl = cpl;
  query.registers.cr4 = cr4;
  oracle::FreshOutcome fresh;
  fresh.kind = OutcomeKind::kPageFault;
  fresh.cr2 = query.gva;
  fresh.error_code = error_code;
  fresh.path[0] = path;
  return deciding_rule(query, fresh);
}

TEST(DecidingRule, NotPresent) {
  EXPECT_EQ(rule_of(AccessKind::kRead, 0, 0, 0, path_of(kAll, 0)), &rules::kPresent);
}
TEST(DecidingRule, ReservedComesBeforeRights) {
  EXPECT_EQ(rule_of(AccessKind::kWrite, 3, 0, pfec::kP | pfec::kRsvd | pfec::kW | pfec::kU,
                    path_of(kAll, pte::kP)),
            &rules::kReserved);
}
TEST(DecidingRule, UserReadOfSupervisorPage) {
  EXPECT_EQ(rule_of(AccessKind::kRead, 3, 0, pfec::kP | pfec::kU, path_of(kAll, pte::kP)),
            &rules::kRights);
}
TEST(DecidingRule, SupervisorWriteToReadOnlyPage) {
  EXPECT_EQ(rule_of(AccessKind::kWrite, 0, 0, pfec::kP | pfec::kW, path_of(kAll, pte::kP)),
            &rules::kWriteProtect);
}
TEST(DecidingRule, SupervisorReadOfUserPageUnderSmap) {
  EXPECT_EQ(rule_of(AccessKind::kRead, 0, cr4::kSmap, pfec::kP, path_of(kAll, kAll)),
            &rules::kSmap);
}
TEST(DecidingRule, SupervisorFetchFromUserPageUnderSmep) {
  EXPECT_EQ(rule_of(AccessKind::kFetch, 0, cr4::kSmep, pfec::kP | pfec::kI, path_of(kAll, kAll)),
            &rules::kSmep);
}
TEST(DecidingRule, FetchFromNoExecutePage) {
  EXPECT_EQ(rule_of(AccessKind::kFetch, 3, 0, pfec::kP | pfec::kU | pfec::kI,
                    path_of(kAll, kAll | pte::kXd)),
            &rules::kNoExecute);
}
TEST(DecidingRule, ProtectionKey) {
  EXPECT_EQ(rule_of(AccessKind::kRead, 3, cr4::kPke, pfec::kP | pfec::kU | pfec::kPk,
                    path_of(kAll, kAll)),
            &rules::kProtectionKeys);
}
TEST(DecidingRule, NonCanonical) {
  oracle::FreshOutcome fresh;
  fresh.kind = OutcomeKind::kGp;
  EXPECT_EQ(deciding_rule({}, fresh), &rules::kCanonical);
}

TEST(RightsText, TheAndOfRightsAndTheOrOfXd) {
  EXPECT_EQ(rights_text(path_of(kAll, pte::kP | pte::kU), true), "user, read-only, executable");
  EXPECT_EQ(rights_text(path_of(kAll | pte::kXd, kAll), true), "user, writable, not executable");
}
TEST(RightsText, NoneBeforeAPage) { EXPECT_EQ(rights_text(path_of(kAll, 0), false), ""); }

}  // namespace
}  // namespace twinwalk::cli
