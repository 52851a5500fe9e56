#ifndef TWINWALK_HARNESS_CLI_IN_TURN_H_
#define TWINWALK_HARNESS_CLI_IN_TURN_H_

// Jobs of which the longer part may go on side by side, and the end of each must come in order.

#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace twinwalk::cli {

// Lets one job after the other in, by number.
class Turns {
 public:
  // Waits until every job before `job` has left. False: one of them failed, and nothing is to be
  // done any more.
  bool wait_for(std::size_t job) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return failed_ || now_ == job; });
    return !failed_;
  }
  void leave() {
    const std::lock_guard lock(mutex_);
    ++now_;
    changed_.notify_all();
  }
  void fail() {
    const std::lock_guard lock(mutex_);
    failed_ = true;
    changed_.notify_all();
  }
  std::size_t take() {
    const std::lock_guard lock(mutex_);
    return taken_++;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t now_ = 0, taken_ = 0;
  bool failed_ = false;
};

// Calls do_job(n, wait) for n = 0 to jobs-1, on up to `workers` threads; a job stays on one thread.
// What comes behind its call of wait() happens in the order of the numbers, one at a time; if that
// gives false the job is to return. An exception ends all, and goes on to the caller: the first
// one.
inline void in_turn(std::size_t jobs, unsigned workers,
                    const std::function<void(std::size_t, const std::function<bool()>&)>& do_job) {
  Turns turns;
  std::exception_ptr error;
  std::mutex error_mutex;
  const auto work = [&] {
    for (std::size_t n = turns.take(); n < jobs; n = turns.take()) {
      try {
        do_job(n, [&turns, n] { return turns.wait_for(n); });
        if (!turns.wait_for(n)) return;
        turns.leave();
      } catch (...) {
        turns.fail();
        const std::lock_guard lock(error_mutex);
        if (error == nullptr) error = std::current_exception();
        return;
      }
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < workers && i < jobs; ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  if (error != nullptr) std::rethrow_exception(error);
}

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_IN_TURN_H_
