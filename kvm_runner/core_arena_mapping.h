#ifndef TWINWALK_KVM_RUNNER_CORE_ARENA_MAPPING_H_
#define TWINWALK_KVM_RUNNER_CORE_ARENA_MAPPING_H_

// Memory of this process for a CoreArena, at addresses that are free in a VM's guest-physical
// space.

#include <string>

#include "kvm_runner/core_arena.h"

namespace twinwalk::kvm {

class CoreArenaMapping {
 public:
  CoreArenaMapping() = default;
  ~CoreArenaMapping();
  CoreArenaMapping(const CoreArenaMapping&) = delete;
  CoreArenaMapping& operator=(const CoreArenaMapping&) = delete;

  // False, and why for a person, if there is no memory.
  bool open(std::string& why);
  const CoreArena::Place& place() const { return place_; }

 private:
  CoreArena::Place place_;
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_CORE_ARENA_MAPPING_H_
