#ifndef TWINWALK_HARNESS_PROCESSOR_GUEST_REGISTERS_H_
#define TWINWALK_HARNESS_PROCESSOR_GUEST_REGISTERS_H_

// What this processor makes of writes to its control registers: whether it takes them, and what
// they drop from its TLB.

#include <cstdint>

#include "harness/trace/machine.h"
#include "harness/trace/op.h"

namespace twinwalk::processor {

// SDM 3A §"Operations that Invalidate TLBs and Paging-Structure Caches"; APM 2 §"TLB Management".
struct TlbEffect {
  enum class Kind : std::uint8_t {
    kNone,
    kPcid,        // of `pcid`, global entries kept
    kEverything,  // every PCID, global entries too
  } kind = Kind::kNone;
  std::uint16_t pcid = 0;
};
// Of a write that was accepted and made `after` of `before`. `value` is the operand: bit 63 of CR3
// is in no register.
TlbEffect effect_of_write(Vendor vendor, const Registers& before, const Registers& after, Reg reg,
                          std::uint64_t value);

struct RegisterAnswer {
  enum class Kind : std::uint8_t { kTaken, kGeneralProtection, kNotThere } kind = Kind::kTaken;
  Registers after;  // kTaken
  // PAE's PDPTE registers are loaded from after.cr3, and that may fault yet (Intel).
  bool loads_pdptes = false;
};
// MOV to CR0, CR3, CR4, WRMSR EFER, WRPKRU; CPL and AC as they come. SDM 2A §"MOV - Move to/from
// Control Registers", 3A §"Control Registers".
RegisterAnswer write_guest_register(const Machine& machine, const Registers& before, Reg reg,
                                    std::uint64_t value);

// INVPCID faults: #GP(0).
bool invpcid_is_refused(const Registers& registers, std::uint64_t type, std::uint64_t pcid,
                        std::uint64_t gva);

inline std::uint16_t pcid_of(const Registers& r) {
  return r.cr4 & cr4::kPcide ? static_cast<std::uint16_t>(r.cr3 & 0xfff) : std::uint16_t{0};
}
constexpr bool is_canonical(std::uint64_t gva, unsigned bits) {
  const unsigned rest = 64 - bits;
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(gva << rest) >> rest) == gva;
}

}  // namespace twinwalk::processor

#endif  // TWINWALK_HARNESS_PROCESSOR_GUEST_REGISTERS_H_
