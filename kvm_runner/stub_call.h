#ifndef TWINWALK_KVM_RUNNER_STUB_CALL_H_
#define TWINWALK_KVM_RUNNER_STUB_CALL_H_

// How a processor is asked to run a stub of the payload, and how it came back.

#include <cstdint>
#include <string>

#include "kvm_runner/payload/payload.h"

namespace twinwalk::kvm {

struct StubCall {
  Stub stub = Stub::kLoad8;
  std::uint64_t rdi = 0, rsi = 0;
  std::uint8_t cpl = 0;
  bool ac = false;
};

// What VMX says of an exit for want of a second-dimension translation.
struct NestedExit {
  enum class Kind : std::uint8_t {
    kViolation,
    kMisconfiguration,
    kLogFull
  } kind = Kind::kViolation;
  std::uint64_t qualification = 0;  // kViolation
  std::uint64_t gpa = 0;
};

// The first exit to the device model that a stub had.
struct DeviceAccess {
  bool seen = false;
  bool write = false;
  std::uint64_t gpa = 0;
};

// How a stub came back.
struct StubExit {
  enum class Kind : std::uint8_t {
    kDone,
    kException,        // vector, error_code, cr2, rip
    kSecondDimension,  // of VMX: an EPT violation or misconfiguration, or its log is full
    kLeftGuest,        // of SVM: VMRUN came back, and the VMCB says why
    kHang,             // the watchdog ended it
    kBroken,  // shutdown, emulation failure, ...: `why`; the vCPU is not to be used any more
  } kind = Kind::kDone;
  unsigned vector = 0;
  std::uint32_t error_code = 0;
  std::uint64_t cr2 = 0, rip = 0;
  std::uint64_t rax = 0;  // as the stub left it
  DeviceAccess device;
  NestedExit nested;      // kSecondDimension
  bool shutdown = false;  // kBroken: a triple fault
  std::string why;
};

inline constexpr unsigned kVectorDb = 1, kVectorBp = 3, kVectorUd = 6, kVectorSs = 12,
                          kVectorGp = 13, kVectorPf = 14;

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_STUB_CALL_H_
