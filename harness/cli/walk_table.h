#ifndef TWINWALK_HARNESS_CLI_WALK_TABLE_H_
#define TWINWALK_HARNESS_CLI_WALK_TABLE_H_

// The picture of one access: each entry of the guest's walk as the reference reads it and as the
// subject left it, and the rule that decides the fresh walk.

#include <cstdint>
#include <string>

#include "harness/trace/outcome.h"
#include "oracle/spec.h"

namespace twinwalk::cli {

// One line an entry, root first:
//   level   index  at        before            reference          subject
//   PML4      146  0x100490  0x101000|p|w|u    +a                 +a
// `before` is the entry as it stood, the two columns what was set (+) or cleared (-) in it. `half`:
// 0, or 1 for the second page of an access that crosses.
std::string walk_table(const oracle::Spec& spec, const oracle::AccessQuery& query, unsigned half,
                       const oracle::FreshOutcome& fresh, const Outcome& got);

// "user, writable, executable": the rights of the whole walk; empty if it ends before a page.
std::string rights_text(const Path& path, bool complete);

// The rule by which the fresh walk of an access ends as it does; never null.
const Rule* deciding_rule(const oracle::AccessQuery& query, const oracle::FreshOutcome& fresh);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_WALK_TABLE_H_
