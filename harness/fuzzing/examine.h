#ifndef TWINWALK_HARNESS_FUZZING_EXAMINE_H_
#define TWINWALK_HARNESS_FUZZING_EXAMINE_H_

// What is done with one candidate, in a process of its own (see triage.h).

#include <cstdint>
#include <set>
#include <string>

#include "harness/fuzzing/triage.h"

namespace twinwalk::fuzz {

struct Examined {
  enum class Kind : std::uint8_t { kFinding, kDuplicate, kNothing, kFailed } kind = Kind::kNothing;
  std::string first_name;  // of the finding that the candidate showed before it was minimised
  std::string name;   // kFinding: the stem of its files; kDuplicate: of the finding that it repeats
  std::string error;  // kFailed: why it could not be written
  unsigned reproduced = 0;
  bool reproduces = true;  // false: only the process that found it shows it
  std::uint64_t operations = 0, unicorn_checks = 0;
};

// `found`: names that need no second look. Writes the finding's files before it returns.
Examined examine(const TriagePlan& plan, const Candidate& candidate,
                 const std::set<std::string>& found);

// Through the memory that driver and child share.
std::string to_text(const Examined& examined);
bool from_text(const std::string& text, Examined& out);

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_EXAMINE_H_
