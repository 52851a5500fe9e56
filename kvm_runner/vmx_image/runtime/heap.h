#ifndef TWINWALK_KVM_RUNNER_VMX_IMAGE_RUNTIME_HEAP_H_
#define TWINWALK_KVM_RUNNER_VMX_IMAGE_RUNTIME_HEAP_H_

// malloc, operator new and their kin on one piece of memory. Blocks are powers of two; one that was
// freed serves the next request of its size.

#include <cstdint>

namespace twinwalk::vmx {

// To be called before anything allocates.
void open_heap(std::uint64_t begin, std::uint64_t end);

}  // namespace twinwalk::vmx

#endif  // TWINWALK_KVM_RUNNER_VMX_IMAGE_RUNTIME_HEAP_H_
