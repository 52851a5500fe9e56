#ifndef TWINWALK_KVM_RUNNER_FORMER_WAYS_H_
#define TWINWALK_KVM_RUNNER_FORMER_WAYS_H_

// Ways by which accesses went before, as a run shows them. For telling deviations of KVMs; nothing
// is judged by it.

#include <cstdint>

#include "harness/subject.h"

namespace twinwalk::kvm {

// Steps of a run up to `index`, an access.
struct FormerWays {
  const Program& program;
  const OutcomeStream& outcomes;
  std::uint32_t index;

  // 32-bit paging: PS of the directory entry by which the access goes is set, or was when some
  // access went by the entry, and it was not the guest that has cleared it since.
  bool goes_by_ps() const;
  // The access goes by a present entry with XD by which another went before, of a vCPU with
  // EFER.NXE.
  bool goes_by_walked_xd() const;
  // The access goes by an 8-byte entry into which a store of four bytes of the guest's, begun in
  // the entry before, was the last to store.
  bool goes_by_straddled() const;
  // The value that was loaded is what the access `former` would load now by the way it went.
  // Neither crosses a page.
  bool loads_by_way_of(std::uint32_t former) const;
  // `gpa` is in a word to which a read-modify-write that came to a device would have stored by its
  // walk: of any step up to `index`, itself as well.
  bool is_of_device_rmw(std::uint64_t gpa) const;
  // `gpa` is in the word of the last entry by which the access goes.
  bool is_own_leaf(std::uint64_t gpa) const;
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_FORMER_WAYS_H_
