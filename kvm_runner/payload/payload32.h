#ifndef TWINWALK_KVM_RUNNER_PAYLOAD_PAYLOAD32_H_
#define TWINWALK_KVM_RUNNER_PAYLOAD_PAYLOAD32_H_

// The bytes of payload32.S and where its entry points are: payload.h for 32-bit code.

#include <cstdint>
#include <span>

#include "kvm_runner/payload/payload.h"

namespace twinwalk::kvm {

std::span<const unsigned char> payload32_bytes(std::uint8_t cpl);
std::uint64_t offset_of_32(Stub stub);
// Of the stub of CPL 0 that goes on at CPL 3 with the frame on the stack.
std::uint64_t offset_of_to_user_32();

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_PAYLOAD_PAYLOAD32_H_
