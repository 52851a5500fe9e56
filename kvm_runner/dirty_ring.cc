#include "kvm_runner/dirty_ring.h"

#include <sys/mman.h>

#include <utility>

#include "kvm_runner/layout.h"

namespace twinwalk::kvm {

DirtyRing::~DirtyRing() {
  if (ring_ != nullptr) munmap(ring_, entries_ * sizeof(kvm_dirty_gfn));
}

DirtyRing& DirtyRing::operator=(DirtyRing&& other) noexcept {
  std::swap(ring_, other.ring_);
  std::swap(entries_, other.entries_);
  std::swap(next_, other.next_);
  return *this;
}

bool DirtyRing::map(int vcpu_fd, std::uint32_t bytes) {
  void* ring = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd,
                    KVM_DIRTY_LOG_PAGE_OFFSET * kPage);
  if (ring == MAP_FAILED) return false;
  ring_ = static_cast<kvm_dirty_gfn*>(ring);
  entries_ = bytes / sizeof(kvm_dirty_gfn);
  return true;
}

// An entry goes from empty to KVM_DIRTY_GFN_F_DIRTY (by KVM) to KVM_DIRTY_GFN_F_RESET (here) and
// back; its place is written before its flags.
unsigned DirtyRing::take(std::vector<DirtyPage>& pages) {
  unsigned taken = 0;
  for (; taken < entries_; ++taken) {
    kvm_dirty_gfn& entry = ring_[next_ % entries_];
    if (__atomic_load_n(&entry.flags, __ATOMIC_ACQUIRE) != KVM_DIRTY_GFN_F_DIRTY) break;
    pages.push_back({entry.slot, entry.offset});
    __atomic_store_n(&entry.flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
    ++next_;
  }
  return taken;
}

}  // namespace twinwalk::kvm
