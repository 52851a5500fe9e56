#include "harness/core/fiber_stack.h"

#include <sys/mman.h>

#include <cerrno>
#include <system_error>

namespace twinwalk {
namespace {

constexpr std::size_t kGuardBytes = 4096;

}  // namespace

std::uint8_t* take_fiber_stack() {
  void* const area = mmap(nullptr, kFiberStackBytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (area == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "fiber stack");
  mprotect(area, kGuardBytes, PROT_NONE);  // the lowest page: an overflow stops here
  return static_cast<std::uint8_t*>(area);
}

void give_fiber_stack_back(std::uint8_t* stack) { munmap(stack, kFiberStackBytes); }

}  // namespace twinwalk
