#ifndef TWINWALK_HARNESS_THREADS_GUEST_MODE_H_
#define TWINWALK_HARNESS_THREADS_GUEST_MODE_H_

// Whether a vCPU's processor runs the guest now, and what other threads want flushed there: the
// inter-processor interrupt of a TLB shootdown.
//
//   vCPU:    outside ──enter()──► in the guest ──leave()──► outside
//   others:  post(request) ─► it is in the guest? ─yes─► wait until it has left
//                                    └─no─► it finds the request when it enters
//
// KVM: vcpu->mode and kvm_make_all_cpus_request.

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "mmu_core/platform.h"

namespace twinwalk {

class GuestMode {
 public:
  void reset() {
    posted_ = false;
    requests_.clear();
  }
  // By the vCPU. False: there are requests, it is outside still.
  bool enter() {
    ++turns_;
    if (!posted_) return true;
    ++turns_;
    return false;
  }
  void leave() { ++turns_; }
  // What it has to flush, oldest first.
  std::vector<mmu::FlushRequest> take() {
    const std::lock_guard lock(lock_);
    posted_ = false;
    return std::exchange(requests_, {});
  }

  // By others. When this returns the vCPU runs with nothing that the request covers.
  void post(const mmu::FlushRequest& request) {
    {
      const std::lock_guard lock(lock_);
      requests_.push_back(request);
      posted_ = true;
    }
    wait_until_out();
  }
  // When this returns the vCPU runs with nothing that the core said before.
  void call_out() {
    posted_ = true;
    wait_until_out();
  }

 private:
  void wait_until_out() const {
    const std::uint64_t turn = turns_;
    if (turn % 2 == 0) return;
    while (turns_ == turn) std::this_thread::yield();
  }

  std::atomic<std::uint64_t> turns_ = 0;  // odd: in the guest
  std::atomic<bool> posted_ = false;
  std::mutex lock_;
  std::vector<mmu::FlushRequest> requests_;
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_THREADS_GUEST_MODE_H_
