#ifndef TWINWALK_HARNESS_CORE_HOST_STEPS_H_
#define TWINWALK_HARNESS_CORE_HOST_STEPS_H_

// What the host does to a VM of the core: memslots, notifier and backing memory, dirty log, stores
// of its own.

#include <cstdint>
#include <vector>

#include "harness/core/core_host.h"
#include "harness/core/core_vm.h"
#include "harness/core/slot_map.h"

namespace twinwalk {

class HostSteps {
 public:
  HostSteps(CoreVm& core, SlotMaps& slots, CoreHost& host)
      : core_(core), slots_(slots), host_(host) {}

  void change_slot(const Op& op, Outcome& out);
  void change_backing(const Op& op, Outcome& out);
  void change_host_page(const Op& op, Outcome& out);
  void dirty_get(const Op& op, Outcome& out, OutcomeStream& stream);
  void dirty_clear(const Op& op, Outcome& out);
  void set_quota(const Op& op);
  void track(const Op& op, Outcome& out);
  void set_attributes(const Op& op, Outcome& out);
  // What an address outside memory is to the guest: a device, or memory of the other kind.
  OutcomeKind exit_at(std::uint64_t gpa) const {
    return slots_[0].kinds().of_other_kind(gpa) ? OutcomeKind::kMemoryFault : OutcomeKind::kMmio;
  }
  void store(const Op& op, Outcome& out);
  // After the guest or the host's memory management got at it.
  void restore_identity_map();
  // What a store of anybody's does first to a page that the host has protected: a notifier event.
  void break_cow(std::uint64_t hva);

 private:
  mmu::Status ask_for_slot(const mmu::MemslotRequest& request, const Op& op);
  void note_slot(const mmu::MemslotRequest& request, const Op& op);

  CoreVm& core_;
  SlotMaps& slots_;
  CoreHost& host_;
  std::vector<std::uint64_t> bitmap_[mmu::kMaxContexts];  // of who is collecting
  bool slot_changes_ = false;                             // a change of a memslot is under way
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_CORE_HOST_STEPS_H_
