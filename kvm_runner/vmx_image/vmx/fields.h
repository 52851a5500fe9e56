#ifndef TWINWALK_KVM_RUNNER_VMX_IMAGE_VMX_FIELDS_H_
#define TWINWALK_KVM_RUNNER_VMX_IMAGE_VMX_FIELDS_H_

// Encodings of the VMCS fields in use, SDM 3D "Field Encoding in VMCS", and the bits of the
// controls, SDM 3C "Virtual Machine Control Structures".

#include <cstdint>

namespace twinwalk::vmx {

enum class VmcsField : std::uint32_t {
  // 16 bits
  kVpid = 0x0000,
  kGuestEs = 0x0800,  // then CS, SS, DS, FS, GS, LDTR, TR, each 2 further on
  kGuestCs = 0x0802,
  kGuestSs = 0x0804,
  kGuestLdtr = 0x080c,
  kGuestTr = 0x080e,
  kHostEs = 0x0c00,
  kHostCs = 0x0c02,
  kHostSs = 0x0c04,
  kHostDs = 0x0c06,
  kHostFs = 0x0c08,
  kHostGs = 0x0c0a,
  kHostTr = 0x0c0c,
  // 64 bits
  kPmlAddress = 0x200e,
  kEptPointer = 0x201a,
  kGuestPhysicalAddress = 0x2400,
  kVmcsLinkPointer = 0x2800,
  kGuestDebugctl = 0x2802,
  kGuestEfer = 0x2806,
  kGuestPdpte0 = 0x280a,  // the next ones each 2 further on
  kHostEfer = 0x2c02,
  // 32 bits
  kPinControls = 0x4000,
  kPrimaryControls = 0x4002,
  kExceptionBitmap = 0x4004,
  kPageFaultMask = 0x4006,
  kPageFaultMatch = 0x4008,
  kCr3TargetCount = 0x400a,
  kExitControls = 0x400c,
  kExitMsrStoreCount = 0x400e,
  kExitMsrLoadCount = 0x4010,
  kEntryControls = 0x4012,
  kEntryMsrLoadCount = 0x4014,
  kEntryInterruption = 0x4016,
  kSecondaryControls = 0x401e,
  kInstructionError = 0x4400,
  kExitReason = 0x4402,
  kExitInterruption = 0x4404,
  kExitErrorCode = 0x4406,
  kInstructionLength = 0x440c,
  kGuestEsLimit = 0x4800,
  kGuestLdtrLimit = 0x480c,
  kGuestTrLimit = 0x480e,
  kGuestGdtrLimit = 0x4810,
  kGuestIdtrLimit = 0x4812,
  kGuestEsRights = 0x4814,
  kGuestLdtrRights = 0x4820,
  kGuestTrRights = 0x4822,
  kGuestInterruptibility = 0x4824,
  kGuestActivity = 0x4826,
  kGuestSysenterCs = 0x482a,
  kPreemptionTimer = 0x482e,
  kHostSysenterCs = 0x4c00,
  kPmlIndex = 0x0812,  // 16 bits
  // natural width
  kCr0Mask = 0x6000,
  kCr4Mask = 0x6002,
  kCr0ReadShadow = 0x6004,
  kCr4ReadShadow = 0x6006,
  kQualification = 0x6400,
  kGuestLinearAddress = 0x640a,
  kGuestCr0 = 0x6800,
  kGuestCr3 = 0x6802,
  kGuestCr4 = 0x6804,
  kGuestEsBase = 0x6806,
  kGuestLdtrBase = 0x6812,
  kGuestTrBase = 0x6814,
  kGuestGdtrBase = 0x6816,
  kGuestIdtrBase = 0x6818,
  kGuestDr7 = 0x681a,
  kGuestRsp = 0x681c,
  kGuestRip = 0x681e,
  kGuestRflags = 0x6820,
  kGuestPendingDebug = 0x6822,
  kGuestSysenterEsp = 0x6824,
  kGuestSysenterEip = 0x6826,
  kHostCr0 = 0x6c00,
  kHostCr3 = 0x6c02,
  kHostCr4 = 0x6c04,
  kHostFsBase = 0x6c06,
  kHostGsBase = 0x6c08,
  kHostTrBase = 0x6c0a,
  kHostGdtrBase = 0x6c0c,
  kHostIdtrBase = 0x6c0e,
  kHostSysenterEsp = 0x6c10,
  kHostSysenterEip = 0x6c12,
  kHostRsp = 0x6c14,
  kHostRip = 0x6c16,
};

// The n-th of fields that come in a row.
constexpr VmcsField field_after(VmcsField first, unsigned n) {
  return static_cast<VmcsField>(static_cast<std::uint32_t>(first) + 2 * n);
}

namespace pin {
inline constexpr std::uint32_t kNmi = 1u << 3, kTimer = 1u << 6;
}
namespace primary {
inline constexpr std::uint32_t kHlt = 1u << 7, kInvlpg = 1u << 9, kCr3Load = 1u << 15,
                               kCr3Store = 1u << 16, kAllPorts = 1u << 24, kSecondary = 1u << 31;
}
namespace secondary {
inline constexpr std::uint32_t kEpt = 1u << 1, kVpid = 1u << 5, kUnrestricted = 1u << 7,
                               kInvpcid = 1u << 12, kPml = 1u << 17, kMbec = 1u << 22;
}
namespace exit_control {
inline constexpr std::uint32_t kHost64 = 1u << 9, kLoadEfer = 1u << 21;
}
namespace entry_control {
inline constexpr std::uint32_t kIa32e = 1u << 9, kLoadEfer = 1u << 15;
}

// Basic exit reasons, SDM 3D "VMX Basic Exit Reasons".
enum class ExitReason : std::uint16_t {
  kException = 0,  // or NMI
  kTripleFault = 2,
  kInvlpg = 14,
  kCrAccess = 28,
  kIo = 30,
  kWrmsr = 32,
  kEptViolation = 48,
  kEptMisconfig = 49,
  kTimer = 52,
  kInvpcid = 58,
  kPmlFull = 62,
};
inline constexpr std::uint32_t kEntryFailed = 1u << 31;  // in the exit reason

}  // namespace twinwalk::vmx

#endif  // TWINWALK_KVM_RUNNER_VMX_IMAGE_VMX_FIELDS_H_
