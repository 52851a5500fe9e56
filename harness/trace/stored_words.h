#ifndef TWINWALK_HARNESS_TRACE_STORED_WORDS_H_
#define TWINWALK_HARNESS_TRACE_STORED_WORDS_H_

// Which words of memory a step stored to: those by which images are compared. Entries that the
// walker changed are part of the outcome already.

#include "harness/trace/op.h"
#include "harness/trace/outcome.h"

namespace twinwalk {

// note(gpa) for each byte at an end of what was stored; what the subject could not tell is not
// noted.
template <class Note>
void each_stored(const Op& op, const Outcome& got, Note note) {
  if (op.verb == Verb::kWrite && got.kind == OutcomeKind::kDone) {
    note(op.gpa);
    note(op.gpa + op.size - 1);
  } else if (op.verb == Verb::kAccess && got.kind == OutcomeKind::kOk &&
             (op.access() == AccessKind::kWrite || op.access() == AccessKind::kRmw)) {
    for (const std::uint64_t gpa : got.gpa) {
      if (gpa != kUnknownGpa) note(gpa);
    }
  }
}

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_TRACE_STORED_WORDS_H_
