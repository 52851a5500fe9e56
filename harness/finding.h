#ifndef TWINWALK_HARNESS_FINDING_H_
#define TWINWALK_HARNESS_FINDING_H_

// What makes two divergences the same finding.

#include <cstdint>
#include <string>

#include "harness/checker.h"
#include "harness/trace/verdict.h"

namespace twinwalk {

struct Finding {
  DivergenceClass divergence = DivergenceClass::kNone;
  Verb verb = Verb::kCount;
  std::string field;
  Profile profile = Profile::kKvm;
  friend bool operator==(const Finding&, const Finding&) = default;
};

// Of a check that diverged. Precondition: result.divergence != kNone.
Finding finding_of(const CheckResult& result, Profile profile);

// The same on every machine and in every build.
std::uint64_t hash_of(const Finding& finding);
// "missed-fault-1f3a9c04": class and the upper 32 bits of the hash; the stem of a finding's file.
std::string name_of(const Finding& finding);

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_FINDING_H_
