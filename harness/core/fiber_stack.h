#ifndef TWINWALK_HARNESS_CORE_FIBER_STACK_H_
#define TWINWALK_HARNESS_CORE_FIBER_STACK_H_

// Memory for the stacks of fibers: of the process (fiber_stack.cc), or of a machine without one.

#include <cstddef>
#include <cstdint>

namespace twinwalk {

inline constexpr std::size_t kFiberStackBytes = std::size_t{256} << 10;

// The lowest byte, 16-aligned. Does not return where there is no memory.
std::uint8_t* take_fiber_stack();
void give_fiber_stack_back(std::uint8_t* stack);

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_CORE_FIBER_STACK_H_
