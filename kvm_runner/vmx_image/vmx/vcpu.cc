#include "kvm_runner/vmx_image/vmx/vcpu.h"

#include <cstring>

#include "harness/trace/machine.h"
#include "kvm_runner/vmx_image/runtime/hex.h"
#include "kvm_runner/vmx_image/runtime/stop.h"
#include "kvm_runner/vmx_image/vmx/instructions.h"

namespace twinwalk::vmx {
namespace {

constexpr std::uint32_t kEferMsr = 0xc000'0080;
constexpr std::uint64_t kRflagsFixed = 2, kRflagsAc = 1 << 18;
// Of the time-stamp counter: no stub takes as long.
constexpr std::uint64_t kMostCycles = 1 << 30;

// Access rights as the VMCS has them, SDM 3C "Guest Register State".
constexpr std::uint32_t kCode64 = 0xa09b, kCode32 = 0xc09b, kData = 0xc093, kBusyTss = 0x8b,
                        kUnusable = 0x1'0000, kDplShift = 5;
constexpr std::uint16_t kGuestCode = 0x08, kGuestData = 0x10;
constexpr unsigned kSegments = 6, kCsIndex = 1;  // ES CS SS DS FS GS

void put(VmcsField field, std::uint64_t value) {
  if (!vmwrite(field, value))
    stop("VMWRITE of field " + hex(static_cast<std::uint32_t>(field)) + " fails");
}

extern "C" bool twinwalk_vmx_enter(GuestRegisters* registers, bool launched);

}  // namespace

Vcpu::Vcpu(const Capabilities& capabilities, const DescriptorTables& tables, std::uint64_t region,
           unsigned index)
    : capabilities_(capabilities),
      tables_(tables),
      region_(region),
      vpid_(static_cast<std::uint16_t>(index + 1)) {
  auto* const page = reinterpret_cast<unsigned char*>(region);
  std::memset(page, 0, 4096);
  const auto revision = static_cast<std::uint32_t>(capabilities.basic);
  std::memcpy(page, &revision, sizeof revision);
  if (!vmclear(region)) stop("VMCLEAR fails");
}

// What no entry changes.
void Vcpu::write_constant_fields() {
  constexpr VmcsField kZero[] = {
      VmcsField::kPageFaultMask,     VmcsField::kPageFaultMatch,   VmcsField::kCr3TargetCount,
      VmcsField::kExitMsrStoreCount, VmcsField::kExitMsrLoadCount, VmcsField::kEntryMsrLoadCount,
      VmcsField::kGuestDebugctl,     VmcsField::kGuestGdtrBase,    VmcsField::kGuestIdtrBase,
      VmcsField::kGuestGdtrLimit,    VmcsField::kGuestIdtrLimit,   VmcsField::kGuestSysenterCs,
      VmcsField::kGuestSysenterEsp,  VmcsField::kGuestSysenterEip, VmcsField::kGuestLdtr,
      VmcsField::kGuestLdtrBase,     VmcsField::kGuestLdtrLimit,   VmcsField::kGuestTrBase};
  for (const VmcsField field : kZero) put(field, 0);
  put(VmcsField::kVmcsLinkPointer, ~std::uint64_t{0});
  put(VmcsField::kExceptionBitmap, 0xffff'ffff);
  put(VmcsField::kGuestLdtrRights, kUnusable);
  put(VmcsField::kGuestTr, kTssSelector);
  put(VmcsField::kGuestTrLimit, 0x67);
  put(VmcsField::kGuestTrRights, kBusyTss);
  put(VmcsField::kGuestDr7, 0x400);
}

void Vcpu::write_host_fields() {
  put(VmcsField::kHostCs, kCodeSelector);
  for (const VmcsField f : {VmcsField::kHostEs, VmcsField::kHostSs, VmcsField::kHostDs,
                            VmcsField::kHostFs, VmcsField::kHostGs})
    put(f, kDataSelector);
  put(VmcsField::kHostTr, kTssSelector);
  put(VmcsField::kHostCr0, read_cr0());
  put(VmcsField::kHostCr3, read_cr3());
  put(VmcsField::kHostCr4, read_cr4());
  put(VmcsField::kHostEfer, read_msr(kEferMsr));
  put(VmcsField::kHostTrBase, tables_.tss);
  put(VmcsField::kHostGdtrBase, tables_.gdt);
  put(VmcsField::kHostIdtrBase, tables_.idt);
  for (const VmcsField f :
       {VmcsField::kHostFsBase, VmcsField::kHostGsBase, VmcsField::kHostSysenterCs,
        VmcsField::kHostSysenterEsp, VmcsField::kHostSysenterEip})
    put(f, 0);
}

void Vcpu::write_controls(const Entry& entry) {
  const Capabilities& c = capabilities_;
  const bool ept = entry.eptp != 0;
  std::uint32_t primary = primary::kHlt | primary::kAllPorts | primary::kSecondary;
  if (!ept) primary |= primary::kInvlpg | primary::kCr3Load | primary::kCr3Store;
  std::uint32_t secondary = secondary::kInvpcid;
  if (c.has_vpid()) secondary |= secondary::kVpid;
  if (ept) secondary |= secondary::kEpt | secondary::kUnrestricted;
  if (ept && entry.mbec) secondary |= secondary::kMbec;
  if (entry.pml != 0) secondary |= secondary::kPml;
  std::uint32_t entry_controls = entry_control::kLoadEfer;
  if ((entry.efer & efer::kLma) != 0) entry_controls |= entry_control::kIa32e;
  put(VmcsField::kPinControls, c.pin.adjust(pin::kNmi | pin::kTimer));
  put(VmcsField::kPrimaryControls, c.primary.adjust(primary));
  put(VmcsField::kSecondaryControls, c.secondary.adjust(secondary));
  put(VmcsField::kExitControls, c.exit.adjust(exit_control::kHost64 | exit_control::kLoadEfer));
  put(VmcsField::kEntryControls, c.entry.adjust(entry_controls));
  put(VmcsField::kEntryInterruption, 0);
  if ((secondary & secondary::kVpid) != 0) put(VmcsField::kVpid, vpid_);
  if (ept) put(VmcsField::kEptPointer, entry.eptp);
  if (entry.pml != 0) {
    put(VmcsField::kPmlAddress, entry.pml);
    put(VmcsField::kPmlIndex, kPmlStart);
  }
  if (c.pin.has(pin::kTimer)) put(VmcsField::kPreemptionTimer, kMostCycles >> (c.misc & 31));
}

void Vcpu::write_guest_fields(const Entry& entry) {
  put(VmcsField::kCr0Mask, entry.cr0_mask);
  put(VmcsField::kCr4Mask, entry.cr4_mask);
  put(VmcsField::kCr0ReadShadow, entry.cr0_read);
  put(VmcsField::kCr4ReadShadow, entry.cr4_read);
  put(VmcsField::kGuestCr0, entry.cr0);
  put(VmcsField::kGuestCr3, entry.cr3);
  put(VmcsField::kGuestCr4, entry.cr4);
  put(VmcsField::kGuestEfer, entry.efer);
  const bool is_64 = (entry.efer & efer::kLma) != 0;
  for (unsigned s = 0; s < kSegments; ++s) {
    const bool code = s == kCsIndex;
    const std::uint32_t rights = !code ? kData : is_64 ? kCode64 : kCode32;
    put(field_after(VmcsField::kGuestEs, s),
        static_cast<std::uint64_t>((code ? kGuestCode : kGuestData) | entry.cpl));
    put(field_after(VmcsField::kGuestEsLimit, s), 0xffff'ffff);
    put(field_after(VmcsField::kGuestEsRights, s), rights | static_cast<std::uint32_t>(entry.cpl)
                                                                << kDplShift);
    put(field_after(VmcsField::kGuestEsBase, s), 0);
  }
  put(VmcsField::kGuestRip, entry.rip);
  put(VmcsField::kGuestRsp, 0);
  put(VmcsField::kGuestRflags, kRflagsFixed | (entry.ac ? kRflagsAc : 0));
  put(VmcsField::kGuestInterruptibility, 0);
  put(VmcsField::kGuestActivity, 0);
  put(VmcsField::kGuestPendingDebug, 0);
  if (entry.pdptes_valid) {
    for (unsigned i = 0; i < 4; ++i) put(field_after(VmcsField::kGuestPdpte0, i), entry.pdpte[i]);
  }
}

void Vcpu::read_exit(Exit& exit) {
  const auto reason = static_cast<std::uint32_t>(vmread(VmcsField::kExitReason));
  exit.qualification = vmread(VmcsField::kQualification);
  exit.rip = vmread(VmcsField::kGuestRip);
  if ((reason & kEntryFailed) != 0) {
    exit.why = "VM entry fails: reason " + hex(reason & 0xffff) + ", qualification " +
               hex(exit.qualification);
    return;
  }
  exit.entered = true;
  exit.reason = static_cast<ExitReason>(reason & 0xffff);
  if (exit.reason == ExitReason::kException) {
    exit.vector = vmread(VmcsField::kExitInterruption) & 0xff;
    exit.error_code = static_cast<std::uint32_t>(vmread(VmcsField::kExitErrorCode));
  }
  if (exit.reason == ExitReason::kEptViolation || exit.reason == ExitReason::kEptMisconfig) {
    exit.gpa = vmread(VmcsField::kGuestPhysicalAddress);
    exit.gla = vmread(VmcsField::kGuestLinearAddress);
  }
}

Exit Vcpu::run(const Entry& entry) {
  Exit exit;
  if (!vmptrld(region_)) stop("VMPTRLD fails");
  if (!made_) {
    write_constant_fields();
    made_ = true;
  }
  write_host_fields();
  write_controls(entry);
  write_guest_fields(entry);
  constexpr unsigned kNmiVector = 2;
  exit.registers = entry.registers;
  do {
    if (!twinwalk_vmx_enter(&exit.registers, launched_)) {
      exit.why = "VM entry is refused: error " + hex(vmread(VmcsField::kInstructionError));
      return exit;
    }
    launched_ = true;
    read_exit(exit);
    // An NMI is of no interest: the guest goes on where it was. Interrupts wait, for RFLAGS.IF is
    // 0.
  } while (exit.entered && exit.reason == ExitReason::kException && exit.vector == kNmiVector);
  if (entry.pml != 0) exit.pml_index = static_cast<std::uint16_t>(vmread(VmcsField::kPmlIndex));
  return exit;
}

}  // namespace twinwalk::vmx
