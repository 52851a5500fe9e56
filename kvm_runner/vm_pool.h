#ifndef TWINWALK_KVM_RUNNER_VM_POOL_H_
#define TWINWALK_KVM_RUNNER_VM_POOL_H_

// VMs of former programs, for programs of the same machine: to make one costs a kernel as much as
// some dozens of steps. What KVM derives from a guest goes with the memslots; the processor that
// CPUID describes stays, since KVM takes it once.

#include <cstdint>
#include <memory>
#include <vector>

#include "harness/trace/machine.h"
#include "kvm_runner/vm.h"

namespace twinwalk::kvm {

class VmPool {
 public:
  // One of that machine, without memslots; null if there is none.
  std::unique_ptr<Vm> take(const Machine& machine);
  // Keeps it, in place of the one that was not wanted for longest. Deletes its memslots.
  void give(const Machine& machine, std::unique_ptr<Vm> vm);

 private:
  static constexpr std::size_t kMost = 16;

  // What KVM cannot change any more.
  struct Model {
    std::uint32_t features = 0;
    unsigned maxphyaddr = 0, vcpus = 0;
    std::uint32_t log = 0;  // options that choose its kind
    friend bool operator==(const Model&, const Model&) = default;
  };
  static Model model_of(const Machine& machine) {
    constexpr auto kLog = option::kDirtyRing | option::kManualClear | option::kInitiallySet;
    return {machine.features, machine.maxphyaddr, machine.vcpus, machine.options & kLog};
  }
  struct Kept {
    Model model;
    std::unique_ptr<Vm> vm;
  };
  std::vector<Kept> kept_;  // by when they were given
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_VM_POOL_H_
