#ifndef TWINWALK_HARNESS_CLI_NESTED_LOOK_H_
#define TWINWALK_HARNESS_CLI_NESTED_LOOK_H_

// What the second dimension of a subject makes of the guest-physical addresses of an access.

#include <cstdint>
#include <map>
#include <vector>

#include "harness/trace/machine.h"
#include "harness/trace/outcome.h"
#include "harness/trace/program.h"
#include "oracle/walk_view.h"

namespace twinwalk::cli {

// After one step.
struct NestedLook {
  Nesting kind = Nesting::kNone;  // kNone: there is one dimension
  std::map<std::uint64_t, NestedPath> paths;

  const NestedPath* find(std::uint64_t gpa) const {
    const auto at = paths.find(gpa);
    return at == paths.end() ? nullptr : &at->second;
  }
};

// The dimension that a guest's walks go through on that machine.
Nesting second_dimension_of(const Machine& machine);

// The guest-physical addresses that a walk has to have translated.
std::vector<std::uint64_t> addresses_in(const oracle::WalkView& view);

// Runs the program once more on the subject of this tree that its machine names, and looks after
// each of the steps (ascending) at those addresses. One result an element of `wanted`, in order.
struct LookAt {
  std::uint32_t step = 0;
  std::vector<std::uint64_t> gpas;
};
std::vector<NestedLook> look_at_second_dimension(const Program& program,
                                                 const std::vector<LookAt>& wanted);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_NESTED_LOOK_H_
