#ifndef TWINWALK_ORACLE_REGISTERS_H_
#define TWINWALK_ORACLE_REGISTERS_H_

// What MOV to CR0/CR3/CR4, WRMSR EFER, WRPKRU and INVPCID accept.

#include <cstdint>

#include "harness/trace/machine.h"
#include "harness/trace/op.h"
#include "harness/trace/verdict.h"

namespace twinwalk::oracle {

struct RegisterWrite {
  enum class Kind : std::uint8_t {
    kAccept,
    kGp,
    kLeavesMode,  // legal, but leaves 4-level 64-bit mode, which nobody executes yet
    kNotThere,    // PKRU without CR4.PKE or the feature
    kOpen,  // the manual does not settle it for this machine: `rule` says why; #GP or accepted
  } kind = Kind::kAccept;
  const Rule* rule = nullptr;
  Registers after;  // as they are once accepted
};

// `now`: the registers before. What a write would do; changes nothing. A write that both leaves the
// mode and is illegal is kLeavesMode: who executes no other mode looks at that first.
RegisterWrite write_register(const Machine& machine, const Registers& now, Reg reg,
                             std::uint64_t value);

// SDM 2 §"INVPCID". True: #GP(0).
bool invpcid_faults(const Registers& now, std::uint64_t type, std::uint64_t pcid,
                    std::uint64_t gva);

// The PCID under which accesses run: CR3[11:0] with CR4.PCIDE, else 0.
inline unsigned current_pcid(const Registers& r) {
  return r.cr4 & cr4::kPcide ? static_cast<unsigned>(r.cr3 & cr3::kPcidMask) : 0;
}

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_REGISTERS_H_
