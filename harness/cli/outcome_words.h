#ifndef TWINWALK_HARNESS_CLI_OUTCOME_WORDS_H_
#define TWINWALK_HARNESS_CLI_OUTCOME_WORDS_H_

#include <string>

#include "harness/trace/outcome.h"

namespace twinwalk::cli {

// What the error code or exit qualification of a fault says, as a sentence: "EPT violation: a read
// and write of an entry of the guest's tables, for linear address 0x400000; ...". Empty where an
// outcome has neither.
std::string in_words(const Outcome& outcome);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_OUTCOME_WORDS_H_
