#ifndef TWINWALK_ORACLE_REGISTERS_H_
#define TWINWALK_ORACLE_REGISTERS_H_

// What MOV to CR0/CR3/CR4, WRMSR EFER, WRPKRU and INVPCID accept, in every mode; and what a host
// may set (`sregs`).

#include <cstdint>

#include "harness/trace/machine.h"
#include "harness/trace/op.h"
#include "harness/trace/verdict.h"
#include "oracle/paging.h"

namespace twinwalk::oracle {

struct RegisterWrite {
  enum class Kind : std::uint8_t {
    kAccept,
    kGp,
    kNotThere,  // PKRU without CR4.PKE or the feature
    kOpen,      // the manual does not settle it for this machine: `rule` says why; #GP or accepted
  } kind = Kind::kAccept;
  const Rule* rule = nullptr;
  Registers after;  // as they are once accepted
  // Once accepted, PAE's PDPTEs are loaded from after.cr3; with vendor=intel that may raise #GP
  // yet.
  bool loads_pdptes = false;
};

// `now`: the registers before. What a write would do; changes nothing.
RegisterWrite write_register(const Machine& machine, const Registers& now, Reg reg,
                             std::uint64_t value);

// The host sets the registers that `op` (a `sregs`) names, the others stay. kGp: refused.
RegisterWrite set_registers(const Machine& machine, const Registers& now, const Op& op);

// What MOV from CR3 gives: outside IA-32e mode the instruction has an operand of 32 bits.
std::uint64_t cr3_as_read(const Registers& r);

// As INIT or RESET leaves them. SDM 3A §"Processor State After Reset".
Registers after_init(const Registers& now, bool reset);

// The machine as the host makes it by `op` (a `cpuid`).
Machine with_capabilities(const Machine& now, const Op& op);
// Whether a processor of that machine can be in this state; `pdptes`: its registers, where they are
// loaded, or nullptr.
bool is_possible(const Machine& machine, const Registers& r, const PdpteRegisters* pdptes);

// Whether loading these raises #GP: some present one has a reserved bit. SDM 3A §"PDPTE Registers".
bool pdptes_fault(const EntryRules& pae, const PdpteRegisters& registers);

// SDM 2A §"INVPCID - Invalidate Process-Context Identifier". True: #GP(0).
bool invpcid_faults(const Registers& now, std::uint64_t type, std::uint64_t pcid,
                    std::uint64_t gva);

// The PCID under which accesses run: CR3[11:0] with CR4.PCIDE, else 0.
inline unsigned current_pcid(const Registers& r) {
  return r.cr4 & cr4::kPcide ? static_cast<unsigned>(r.cr3 & cr3::kPcidMask) : 0;
}

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_REGISTERS_H_
