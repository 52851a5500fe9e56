#ifndef TWINWALK_KVM_RUNNER_DIRTY_RING_H_
#define TWINWALK_KVM_RUNNER_DIRTY_RING_H_

// The ring in which KVM writes what a vCPU makes dirty (KVM_CAP_DIRTY_LOG_RING): this process's
// side of it.

#include <linux/kvm.h>

#include <cstdint>
#include <vector>

namespace twinwalk::kvm {

struct DirtyPage {
  unsigned slot = 0;       // KVM's number of the memslot
  std::uint64_t page = 0;  // within it
};

class DirtyRing {
 public:
  DirtyRing() = default;
  ~DirtyRing();
  DirtyRing(DirtyRing&& other) noexcept { *this = static_cast<DirtyRing&&>(other); }
  DirtyRing& operator=(DirtyRing&& other) noexcept;

  // Maps the ring of `bytes` of a vCPU; false and errno.
  bool map(int vcpu_fd, std::uint32_t bytes);
  // Appends what KVM has put there and gives the places back, as far as KVM_RESET_DIRTY_RINGS then
  // takes them; how many they were.
  unsigned take(std::vector<DirtyPage>& pages);

 private:
  kvm_dirty_gfn* ring_ = nullptr;
  std::uint32_t entries_ = 0, next_ = 0;
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_DIRTY_RING_H_
