#ifndef MMU_CORE_REGISTERS_H_
#define MMU_CORE_REGISTERS_H_

// What a guest (or the host) may write into a vCPU's registers, and what the processor makes of it.
// Rules only: what follows for roots, shadow pages and TLBs is vcpu.cc's.

#include "mmu_core/cpu.h"

namespace mmu::registers {

// As a vCPU starts: 4-level paging, CR3 = 0.
CpuRegisters at_start(const Capabilities& caps);

inline bool long_mode(const CpuRegisters& r) { return r.efer & efer::kLma; }
// As MOV from CR3 gives it: outside IA-32e mode a register of 32 bits.
inline u64 visible_cr3(const CpuRegisters& r) {
  return long_mode(r) ? r.cr3 : r.cr3 & cr3::kLegacy;
}

// MOV to a control register, WRMSR of EFER. False: #GP(0), `r` unchanged. PDPTEs are not loaded
// here: see loads_pdptes().
bool write_cr0(CpuRegisters& r, u64 value);
// `flush`: the write invalidates the translations of the PCID that it names.
bool write_cr3(const Capabilities& caps, CpuRegisters& r, u64 value, bool& flush);
bool write_cr4(const Capabilities& caps, CpuRegisters& r, u64 value);
bool write_efer(const Capabilities& caps, CpuRegisters& r, u64 value);

// All at once, by the host (KVM: kvm_is_valid_sregs). False: inconsistent, `r` unchanged.
bool set_sregs(const Capabilities& caps, CpuRegisters& r, const Sregs& sregs);

// As INIT or RESET leaves them (SDM 3A "Processor State After Reset", KVM: kvm_vcpu_reset).
CpuRegisters after_init(const CpuRegisters& before, bool reset);

// May a vCPU whose registers these are get these capabilities? Not if it uses what they lack, or
// names memory beyond their MAXPHYADDR.
bool possible(const Capabilities& caps, const CpuRegisters& r);

// Does this change of CR0 or CR4 load the PDPTEs (SDM 3A "PDPTE Registers")?
bool loads_pdptes(const CpuRegisters& before, const CpuRegisters& after);

// What a change of CR0 or CR4 invalidates in the TLBs (SDM 3A "Operations that Invalidate TLBs and
// Paging-Structure Caches"; AMD APM 2 "TLB Management").
enum class Invalidates : u8 { kNothing, kCurrentPcid, kEverything };
Invalidates invalidates(Vendor vendor, const CpuRegisters& before, const CpuRegisters& after);

}  // namespace mmu::registers

#endif  // MMU_CORE_REGISTERS_H_
