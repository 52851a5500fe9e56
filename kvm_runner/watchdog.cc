#include "kvm_runner/watchdog.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace twinwalk::kvm {
namespace {

thread_local kvm_run* volatile watched = nullptr;
thread_local volatile sig_atomic_t expired = 0;

int watchdog_signal() { return SIGRTMIN + 5; }

void on_expiry(int) {
  expired = 1;
  kvm_run* run = watched;
  if (run != nullptr) run->immediate_exit = 1;
}

}  // namespace

Watchdog::Watchdog() {
  struct sigaction action {};
  action.sa_handler = on_expiry;  // no SA_RESTART: KVM_RUN comes back with EINTR
  sigaction(watchdog_signal(), &action, nullptr);
  sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = watchdog_signal();
#ifdef sigev_notify_thread_id
  event.sigev_notify_thread_id = static_cast<pid_t>(syscall(SYS_gettid));
#else
  event._sigev_un._tid = static_cast<pid_t>(syscall(SYS_gettid));
#endif
  usable_ = timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0;
}

Watchdog::~Watchdog() {
  if (usable_) timer_delete(timer_);
}

void Watchdog::set(unsigned milliseconds) {
  if (!usable_) return;
  itimerspec when{};
  when.it_value.tv_sec = milliseconds / 1000;
  when.it_value.tv_nsec = static_cast<long>(milliseconds % 1000) * 1'000'000;
  timer_settime(timer_, 0, &when, nullptr);
}

void Watchdog::arm(kvm_run* run, unsigned milliseconds) {
  expired = 0;
  watched = run;
  set(milliseconds);
}

void Watchdog::disarm() {
  set(0);
  if (watched != nullptr) watched->immediate_exit = 0;
  watched = nullptr;
}

bool Watchdog::fired() const { return expired != 0; }

}  // namespace twinwalk::kvm
