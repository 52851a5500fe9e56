#ifndef TWINWALK_HARNESS_CORE_SUBJECT_H_
#define TWINWALK_HARNESS_CORE_SUBJECT_H_

// The subject `core`: mmu_core on simulated host memory and the simulated processor.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "harness/subject.h"

namespace twinwalk {

struct CoreSubjectOptions {
  bool audit = true;  // check the core's invariants after every step
  // How often an access may come back to the same fault with nothing changing in between, before it
  // is a kLiveness.
  unsigned refault_bound = 16;
  // MMU states reached, counted up by the core; core_state_counters() bytes that outlive the
  // subject, or null.
  std::uint8_t* state_counters = nullptr;
  StepWatch* watch = nullptr;  // outlives the subject
};

std::unique_ptr<Subject> make_core_subject(CoreSubjectOptions options = {});

std::uint32_t core_state_counters();

// What a part of the counters counts: number first + (operation * levels + level) * roles + role.
struct CoreStateNames {
  std::string title;
  std::uint32_t first = 0;
  std::vector<std::string> operations, levels, roles;
};
// Shadow paging, and paging in two dimensions.
std::vector<CoreStateNames> core_state_names();

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_CORE_SUBJECT_H_
