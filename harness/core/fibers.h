#ifndef TWINWALK_HARNESS_CORE_FIBERS_H_
#define TWINWALK_HARNESS_CORE_FIBERS_H_

// Threads of control that take turns on one thread of the machine: how a trace has several vCPUs
// and host threads inside the core at once, and always in the same order.
//
//   context 0: whoever called        start(f) ─► f runs on its own stack ─► ends ──► back
//                                                        │ wait()
//                                    resume(n) ◄─────────┘
//
// A fiber goes on at once when it is started or resumed, and whoever did that goes on when it ends
// or waits. Nothing is allocated after construction.

#include <cstddef>
#include <cstdint>
#include <memory>

namespace twinwalk {

class Fibers {
 public:
  static constexpr unsigned kMost = 7;  // besides context 0
  using Body = void (*)(void* argument);

  Fibers();
  ~Fibers();
  Fibers(const Fibers&) = delete;
  Fibers& operator=(const Fibers&) = delete;

  // Which context runs: 0, or a fiber's number from 1 to kMost.
  unsigned current() const { return current_; }
  bool alive(unsigned fiber) const { return state_[fiber] != State::kFree; }
  bool any_alive() const { return alive_ != 0; }
  bool waits(unsigned fiber) const { return state_[fiber] == State::kWaiting; }

  // Runs body(argument) on a free fiber; its number, or 0 if all are in use. When this returns the
  // fiber waits or has ended.
  unsigned start(Body body, void* argument);
  // Precondition: it waits.
  void resume(unsigned fiber);
  // In a fiber: back to whom started or resumed it. Returns when it is resumed.
  void wait();
  // In a fiber: never comes back. Context 0 goes on where it last started or resumed one, and finds
  // deserted() true. All fibers are free; what their stacks held is not destroyed.
  [[noreturn]] void desert();
  bool deserted() const { return deserted_; }
  // From context 0: all fibers are free.
  void forget_all();

 private:
  enum class State : std::uint8_t { kFree, kRunning, kWaiting };
  struct Stacks;

  static void enter(Fibers& self);
  void switch_to(unsigned context, bool for_good);
  void arrived();

  std::unique_ptr<Stacks> stacks_;
  State state_[kMost + 1] = {};
  unsigned resumed_by_[kMost + 1] = {};
  Body body_[kMost + 1] = {};
  void* argument_[kMost + 1] = {};
  unsigned current_ = 0, alive_ = 0;
  bool deserted_ = false;
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_CORE_FIBERS_H_
