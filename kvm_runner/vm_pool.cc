#include "kvm_runner/vm_pool.h"

#include <algorithm>
#include <utility>

namespace twinwalk::kvm {

std::unique_ptr<Vm> VmPool::take(const Machine& machine) {
  const Model wanted = model_of(machine);
  const auto found = std::find_if(kept_.begin(), kept_.end(),
                                  [&](const Kept& kept) { return kept.model == wanted; });
  if (found == kept_.end()) return nullptr;
  std::unique_ptr<Vm> vm = std::move(found->vm);
  kept_.erase(found);
  return vm;
}

void VmPool::give(const Machine& machine, std::unique_ptr<Vm> vm) {
  vm->drop_memslots();
  if (kept_.size() == kMost) kept_.erase(kept_.begin());
  kept_.push_back({model_of(machine), std::move(vm)});
}

}  // namespace twinwalk::kvm
