#ifndef TWINWALK_HARNESS_CLI_WALK_TABLE_H_
#define TWINWALK_HARNESS_CLI_WALK_TABLE_H_

// The picture of one access: each entry of the guest's walk as the reference reads it, and what
// reference and subject made of it, side by side.

#include <string>

#include "harness/cli/nested_look.h"
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
// In two dimensions the walk of each guest-physical address stands before what is read there:
//   EPT4      0  0x140000  0x141000|r|w|x    +a          +a
// A reference that has no second dimension of its own (core=ept, core=npt) says nothing of it; then
// the entries are the subject's, as it left them.
std::string walk_table(const oracle::WalkViewPart& part, const Path& wanted, const Path& left,
                       const NestedLook& nested = {});

// "0x141000|r|w|x" of an entry of the second dimension.
std::string nested_text(Nesting kind, std::uint64_t entry);
// What became of one: "=", "+a|d", or the whole new value.
std::string nested_change(Nesting kind, std::uint64_t before, std::uint64_t after);

// Of a former translation that is still allowed: the entries that memory no longer holds.
std::string former_entries(const oracle::WalkViewStale& stale);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_WALK_TABLE_H_
