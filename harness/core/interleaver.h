#ifndef TWINWALK_HARNESS_CORE_INTERLEAVER_H_
#define TWINWALK_HARNESS_CORE_INTERLEAVER_H_

// `at` blocks: the steps of a block run inside the step that they stand under, when the core comes
// to their yield point, as another vCPU or a host thread would. Each block is a fiber. Who finds a
// lock taken waits for it; the fiber that waits longest gets it in the moment when it is given
// back.
//
//   outer step:  ─── after-walk ─┐            ┌─── unlock ─┐        ┌── end
//   block:                       └─ step, mmu lock taken ✗  └─ step ─┘

#include <cstddef>
#include <cstdint>

#include "harness/core/fibers.h"
#include "harness/trace/program.h"
#include "mmu_core/platform.h"

namespace twinwalk {

class Interleaver {
 public:
  class Runner {
   public:
    // Carries out a step of a block. May call back; a panic ends in leave_for_good().
    virtual void run_inside(std::size_t step) = 0;
    // The contexts wait for each other, or one takes what it has. Does not return.
    [[noreturn]] virtual void broken(const char* why) = 0;
    // Where context 0 goes on after leave_for_good().
    [[noreturn]] virtual void left_for_good() = 0;

   protected:
    ~Runner() = default;
  };
  explicit Interleaver(Runner& runner) : runner_(runner) {}

  void reset();
  // The step `outer` is about to run, [outer + 1, end) are its blocks' steps. Returns `end`.
  std::size_t begin(const Program& program, std::size_t outer);
  // It is over: blocks whose point it did not come to run now, and all go on to their ends.
  void finish();

  unsigned context() const { return fibers_.current(); }
  // Which vCPUs have a step under way, as bits.
  bool any_inside(std::uint32_t vcpus) const { return inside_ & vcpus; }
  void enter_vcpus(std::uint32_t vcpus) { inside_ |= vcpus; }
  void leave_vcpus(std::uint32_t vcpus) { inside_ &= ~vcpus; }

  void lock(mmu::LockId id);
  void unlock(mmu::LockId id);
  void lock_shared(mmu::LockId id);
  void unlock_shared(mmu::LockId id);
  // Sections in which a context looks at the memslots; they nest.
  void begin_section() { ++sections_[fibers_.current()]; }
  void end_section();
  // Until no other context is in one.
  void wait_for_sections() { wait_for({kSections, false}); }
  void reached(mmu::YieldPoint point);
  // Lets others go on, since only they can change what is waited for. False: there is nobody.
  bool pause();
  // In a fiber, for a panic.
  [[noreturn]] void leave_for_good() { fibers_.desert(); }

 private:
  static constexpr unsigned kLocks = 2, kNobody = ~0u;
  static constexpr unsigned kSections = kLocks;  // waited for as if it were a lock
  static constexpr unsigned kMostPauses = 1000;  // of one group
  struct Block {
    std::size_t begin = 0, end = 0;
  };

  void start_block(Block block);
  static void run_block(void* self);
  void go_on(unsigned fiber);
  void check_left();
  bool let_one_go_on();
  bool can_go_on(unsigned fiber) const;
  struct Want {
    unsigned lock = kNobody;
    bool shared = false;
  };
  bool is_free(Want want, unsigned context) const;
  void wait_for(Want want);
  void wake(unsigned lock);

  Runner& runner_;
  Fibers fibers_;
  const Program* program_ = nullptr;
  std::size_t next_ = 0, end_ = 0;  // block steps of the group that are still to be started
  std::uint32_t started_ = 0;       // bit: the point was come to
  Block block_of_[Fibers::kMost + 1];
  Block starting_;
  unsigned owner_[kLocks] = {kNobody, kNobody};
  std::uint32_t sharers_[kLocks] = {};  // contexts, as bits
  unsigned sections_[Fibers::kMost + 1] = {};
  Want awaits_[Fibers::kMost + 1];  // lock kNobody: none
  unsigned turn_ = 0;               // the fiber that went on last
  unsigned pauses_ = 0;
  std::uint32_t inside_ = 0;
  bool outer_over_ = true;
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_CORE_INTERLEAVER_H_
