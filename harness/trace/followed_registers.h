#ifndef TWINWALK_HARNESS_TRACE_FOLLOWED_REGISTERS_H_
#define TWINWALK_HARNESS_TRACE_FOLLOWED_REGISTERS_H_

// The registers that choose a vCPU's paging mode and root, as far as the words of a trace tell:
// what lowering follows. Writes count as accepted unless the mode that they would make is refused
// by every processor, so that a write that raises #GP does not make `map` write for another mode.
// Nothing judges by this: which writes are legal is decided by subjects and references.

#include <cstdint>

#include "harness/trace/op.h"

namespace twinwalk {

class FollowedRegisters {
 public:
  void reset(const Machine& machine);
  void write(Reg reg, std::uint64_t value);  // `mov`, and each part of `cpu`
  void set(const Op& sregs);
  void init();
  void set_features(std::uint32_t features) { features_ = features; }

  std::uint64_t cr0() const { return cr0_; }
  std::uint64_t cr4() const { return cr4_; }
  std::uint64_t efer() const { return efer_; }
  Mode mode() const { return mode_of(cr0_, cr4_, efer_); }
  // What MOV from CR3 would give.
  std::uint64_t cr3() const { return legacy() ? cr3_ & 0xffff'ffff : cr3_; }
  // Address of the top table: in PAE mode the array of four PDPTEs, aligned to 32 bytes.
  std::uint64_t root() const;

 private:
  bool legacy() const { return !(efer_ & efer::kLma); }
  bool paging() const { return cr0_ & cr0::kPg; }

  std::uint64_t cr0_ = 0, cr3_ = 0, cr4_ = 0, efer_ = 0;  // efer_ with the LMA that it has now
  std::uint32_t features_ = 0;
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_TRACE_FOLLOWED_REGISTERS_H_
