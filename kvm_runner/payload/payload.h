#ifndef TWINWALK_KVM_RUNNER_PAYLOAD_PAYLOAD_H_
#define TWINWALK_KVM_RUNNER_PAYLOAD_PAYLOAD_H_

// The bytes of payload.S and where its entry points are.

#include <cstdint>
#include <span>

namespace twinwalk::kvm {

// One instruction sequence of the payload; in and out registers as payload.S says.
enum class Stub : std::uint8_t {
  kLoad8,
  kLoad4,
  kLoad2,
  kLoad1,
  kStore8,
  kStore4,
  kStore2,
  kStore1,
  kRmw8,
  kRmw4,
  kRmw2,
  kRmw1,
  kFetch,
  kInvlpg,
  kInvpcid,
  kWriteCr0,
  kWriteCr3,
  kWriteCr4,
  kWriteEfer,
  kWritePkru,
  kStac,
  kClac,
  kFlushAll,
  kReadCr0,
  kReadCr3,
  kReadCr4,
  kReadEfer,
  kReadPkru,
  kNothing,
  kVmmcall,
  kVmrun,  // this and behind: 64-bit code only
  kInvlpga,
  kCount,
};

// The code for CPL 0 or CPL 3, at most one page, position independent. Exception vector n enters at
// byte 8 * n of that for CPL 0.
std::span<const unsigned char> payload_bytes(std::uint8_t cpl);

// The copy for batches, with its interpreter: vectors and stubs are where those for CPL 0 are.
std::span<const unsigned char> batched_payload_bytes();
// Offset of the interpreter's first instruction in batched_payload_bytes().
std::uint64_t offset_of_interpreter();

// Offset of the stub's first instruction in payload_bytes() of either ring.
std::uint64_t offset_of(Stub stub);

// The stub of a family (`first` = its 8-byte member) for an access of 1, 2, 4 or 8 bytes.
Stub sized(Stub first, std::uint64_t size);

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_PAYLOAD_PAYLOAD_H_
