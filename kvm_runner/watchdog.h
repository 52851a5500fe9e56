#ifndef TWINWALK_KVM_RUNNER_WATCHDOG_H_
#define TWINWALK_KVM_RUNNER_WATCHDOG_H_

// Ends a KVM_RUN that does not come back: a timer signal for the thread that runs the vCPU sets
// immediate_exit, so that neither the running KVM_RUN nor the one that is about to start is missed.

#include <linux/kvm.h>

#include <ctime>

namespace twinwalk::kvm {

class Watchdog {
 public:
  // Installs the handler of its signal (a real-time signal that nothing else here uses) and the
  // timer of this thread.
  Watchdog();
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // From now on `run` has `milliseconds`. One vCPU at a time, on the thread that made this object.
  void arm(kvm_run* run, unsigned milliseconds);
  void disarm();
  bool fired() const;  // since arm()

 private:
  void set(unsigned milliseconds);
  timer_t timer_{};
  bool usable_ = false;
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_WATCHDOG_H_
