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

void put(Field field, std::uint64_t value) {
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
  constexpr Field kZero[] = {
      Field::kPageFaultMask,     Field::kPageFaultMatch,   Field::kCr3TargetCount,
      Field::kExitMsrStoreCount, Field::kExitMsrLoadCount, Field::kEntryMsrLoadCount,
      Field::kGuestDebugctl,     Field::kGuestGdtrBase,    Field::kGuestIdtrBase,
      Field::kGuestGdtrLimit,    Field::kGuestIdtrLimit,   Field::kGuestSysenterCs,
      Field::kGuestSysenterEsp,  Field::kGuestSysenterEip, Field::kGuestLdtr,
      Field::kGuestLdtrBase,     Field::kGuestLdtrLimit,   Field::kGuestTrBase};
  for (const Field field : kZero) put(field, 0);
  put(Field::kVmcsLinkPointer, ~std::uint64_t{0});
  put(Field::kExceptionBitmap, 0xffff'ffff);
  put(Field::kGuestLdtrRights, kUnusable);
  put(Field::kGuestTr, kTssSelector);
  put(Field::kGuestTrLimit, 0x67);
  put(Field::kGuestTrRights, kBusyTss);
  put(Field::kGuestDr7, 0x400);
}

void Vcpu::write_host_fields() {
  put(Field::kHostCs, kCodeSelector);
  for (const Field f :
       {Field::kHostEs, Field::kHostSs, Field::kHostDs, Field::kHostFs, Field::kHostGs})
    put(f, kDataSelector);
  put(Field::kHostTr, kTssSelector);
  put(Field::kHostCr0, read_cr0());
  put(Field::kHostCr3, read_cr3());
  put(Field::kHostCr4, read_cr4());
  put(Field::kHostEfer, read_msr(kEferMsr));
  put(Field::kHostTrBase, tables_.tss);
  put(Field::kHostGdtrBase, tables_.gdt);
  put(Field::kHostIdtrBase, tables_.idt);
  for (const Field f : {Field::kHostFsBase, Field::kHostGsBase, Field::kHostSysenterCs,
                        Field::kHostSysenterEsp, Field::kHostSysenterEip})
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
  put(Field::kPinControls, c.pin.adjust(pin::kNmi | pin::kTimer));
  put(Field::kPrimaryControls, c.primary.adjust(primary));
  put(Field::kSecondaryControls, c.secondary.adjust(secondary));
  put(Field::kExitControls, c.exit.adjust(exit_control::kHost64 | exit_control::kLoadEfer));
  put(Field::kEntryControls, c.entry.adjust(entry_controls));
  put(Field::kEntryInterruption, 0);
  if ((secondary & secondary::kVpid) != 0) put(Field::kVpid, vpid_);
  if (ept) put(Field::kEptPointer, entry.eptp);
  if (entry.pml != 0) {
    put(Field::kPmlAddress, entry.pml);
    put(Field::kPmlIndex, kPmlStart);
  }
  if (c.pin.has(pin::kTimer)) put(Field::kPreemptionTimer, kMostCycles >> (c.misc & 31));
}

void Vcpu::write_guest_fields(const Entry& entry) {
  put(Field::kCr0Mask, entry.cr0_mask);
  put(Field::kCr4Mask, entry.cr4_mask);
  put(Field::kCr0ReadShadow, entry.cr0_read);
  put(Field::kCr4ReadShadow, entry.cr4_read);
  put(Field::kGuestCr0, entry.cr0);
  put(Field::kGuestCr3, entry.cr3);
  put(Field::kGuestCr4, entry.cr4);
  put(Field::kGuestEfer, entry.efer);
  const bool is_64 = (entry.efer & efer::kLma) != 0;
  for (unsigned s = 0; s < kSegments; ++s) {
    const bool code = s == kCsIndex;
    const std::uint32_t rights = !code ? kData : is_64 ? kCode64 : kCode32;
    put(field_after(Field::kGuestEs, s),
        static_cast<std::uint64_t>((code ? kGuestCode : kGuestData) | entry.cpl));
    put(field_after(Field::kGuestEsLimit, s), 0xffff'ffff);
    put(field_after(Field::kGuestEsRights, s), rights | static_cast<std::uint32_t>(entry.cpl)
                                                            << kDplShift);
    put(field_after(Field::kGuestEsBase, s), 0);
  }
  put(Field::kGuestRip, entry.rip);
  put(Field::kGuestRsp, 0);
  put(Field::kGuestRflags, kRflagsFixed | (entry.ac ? kRflagsAc : 0));
  put(Field::kGuestInterruptibility, 0);
  put(Field::kGuestActivity, 0);
  put(Field::kGuestPendingDebug, 0);
  if (entry.pdptes_valid) {
    for (unsigned i = 0; i < 4; ++i) put(field_after(Field::kGuestPdpte0, i), entry.pdpte[i]);
  }
}

void Vcpu::read_exit(Exit& exit) {
  const auto reason = static_cast<std::uint32_t>(vmread(Field::kExitReason));
  exit.qualification = vmread(Field::kQualification);
  exit.rip = vmread(Field::kGuestRip);
  if ((reason & kEntryFailed) != 0) {
    exit.why = "VM entry fails: reason " + hex(reason & 0xffff) + ", qualification " +
               hex(exit.qualification);
    return;
  }
  exit.entered = true;
  exit.reason = static_cast<ExitReason>(reason & 0xffff);
  if (exit.reason == ExitReason::kException) {
    exit.vector = vmread(Field::kExitInterruption) & 0xff;
    exit.error_code = static_cast<std::uint32_t>(vmread(Field::kExitErrorCode));
  }
  if (exit.reason == ExitReason::kEptViolation || exit.reason == ExitReason::kEptMisconfig) {
    exit.gpa = vmread(Field::kGuestPhysicalAddress);
    exit.gla = vmread(Field::kGuestLinearAddress);
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
      exit.why = "VM entry is refused: error " + hex(vmread(Field::kInstructionError));
      return exit;
    }
    launched_ = true;
    read_exit(exit);
    // An NMI is of no interest: the guest goes on where it was. Interrupts wait, for RFLAGS.IF is
    // 0.
  } while (exit.entered && exit.reason == ExitReason::kException && exit.vector == kNmiVector);
  if (entry.pml != 0) exit.pml_index = static_cast<std::uint16_t>(vmread(Field::kPmlIndex));
  return exit;
}

}  // namespace twinwalk::vmx
