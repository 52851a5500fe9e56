#ifndef TWINWALK_HARNESS_CLI_WALK_TABLE_H_
#define TWINWALK_HARNESS_CLI_WALK_TABLE_H_

// The picture of one access: each entry of the guest's walk as the reference reads it, and what
// reference and subject made of it, side by side.

#include <string>

#include "harness/trace/op.h"
#include "harness/trace/outcome.h"
#include "oracle/spec.h"
#include "oracle/walk_view.h"

namespace twinwalk::cli {

// What an access asks of the walker, by the registers of its vCPU.
oracle::AccessQuery access_query(const Op& op, const Registers& registers);

// One line an entry, root first; then what the entries add up to:
//   level   index  at        entry before      reference   subject
//   PML4      146  0x100490  0x101000|p|w|u    +a          +a
// "reference" and "subject" say what was set (+) or cleared (-) in the entry: `wanted` is the
// reference's path after the access, `left` the subject's.
std::string walk_table(const oracle::WalkViewPart& part, const Path& wanted, const Path& left);

// Of a former translation that is still allowed: the entries that memory no longer holds.
std::string former_entries(const oracle::WalkViewStale& stale);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_WALK_TABLE_H_
