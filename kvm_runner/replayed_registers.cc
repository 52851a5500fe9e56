#include "kvm_runner/replayed_registers.h"

namespace twinwalk::kvm {

void replay(const Op& op, const Machine& machine, FollowedRegisters& registers) {
  if (op.verb == Verb::kMov) registers.write(op.reg(), op.value);
  if (op.verb == Verb::kSregs) registers.set(op);
  if (op.verb == Verb::kInit) registers.init();
  if (op.verb == Verb::kNewVcpu) registers.reset(machine);
}

Registers registers_of(const FollowedRegisters& followed) {
  Registers registers;
  registers.cr0 = followed.cr0();
  registers.cr3 = followed.cr3();
  registers.cr4 = followed.cr4();
  registers.efer = followed.efer();
  return registers;
}

}  // namespace twinwalk::kvm
