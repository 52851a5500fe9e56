#ifndef TWINWALK_HARNESS_EXPECTATION_H_
#define TWINWALK_HARNESS_EXPECTATION_H_

// The `=` lines of a trace: what an operation must be seen to do.

#include <string_view>

#include "harness/trace/outcome.h"

namespace twinwalk {

// True if `outcome` shows all that `text` says. The first word is the kind; each further word must
// stand in to_text(outcome), so that a line may leave out what it does not care about ("ok" alone:
// any completed access). `gpa=` is not held against a completed access of which the subject cannot
// tell where it landed. `value=0` also matches a value that is not printed. After the word `set`,
// `pte=a|d` and `upper=a` name bits that must be set in the leaf entry and in every entry above it
// (first page of the access).
bool matches(std::string_view text, const Outcome& outcome);

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_EXPECTATION_H_
