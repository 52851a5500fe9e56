#include "harness/core/fibers.h"

#include <cstdlib>

#include "harness/core/fiber_stack.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TWINWALK_FIBERS_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define TWINWALK_FIBERS_TSAN 1
#endif
#endif

#ifdef TWINWALK_FIBERS_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef TWINWALK_FIBERS_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace twinwalk {

// Leaves what a function must preserve on the stack, notes the stack pointer in *from, and goes on
// with the stack pointer `to`. System V ABI, "Register Usage"; the floating-point control words are
// the same in all contexts.
extern "C" void twinwalk_switch_stacks(void** from, void* to);
asm(R"(
.text
.p2align 4
.type twinwalk_switch_stacks, @function
twinwalk_switch_stacks:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size twinwalk_switch_stacks, . - twinwalk_switch_stacks
)");

// Where a new stack is switched to: what start() left in two of the registers above.
extern "C" void twinwalk_enter_fiber();
asm(R"(
.p2align 4
.type twinwalk_enter_fiber, @function
twinwalk_enter_fiber:
  mov %rbx, %rdi
  call *%rbp
  ud2
.size twinwalk_enter_fiber, . - twinwalk_enter_fiber
)");

struct Fibers::Stacks {
  void* pointer[kMost + 1] = {};  // of each stack that is not in use
  std::uint8_t* stack[kMost + 1] = {};
#ifdef TWINWALK_FIBERS_ASAN
  void* fake[kMost + 1] = {};  // of frames that a sanitizer keeps apart
  const void* main_stack = nullptr;
  std::size_t main_bytes = 0;
  unsigned left = 0;  // the context that was switched away from
#endif
#ifdef TWINWALK_FIBERS_TSAN
  void* thread[kMost + 1] = {};
#endif
};

Fibers::Fibers() : stacks_(std::make_unique<Stacks>()) {
  for (unsigned n = 1; n <= kMost; ++n) {
    stacks_->stack[n] = take_fiber_stack();
#ifdef TWINWALK_FIBERS_TSAN
    stacks_->thread[n] = __tsan_create_fiber(0);
#endif
  }
}

Fibers::~Fibers() {
  for (unsigned n = 1; n <= kMost; ++n) {
    give_fiber_stack_back(stacks_->stack[n]);
#ifdef TWINWALK_FIBERS_TSAN
    __tsan_destroy_fiber(stacks_->thread[n]);
#endif
  }
}

// `for_good`: this stack is not used again as it is.
void Fibers::switch_to(unsigned context, [[maybe_unused]] bool for_good) {
  const unsigned from = current_;
  current_ = context;
#ifdef TWINWALK_FIBERS_ASAN
  stacks_->left = from;
  const void* const bottom = context == 0 ? stacks_->main_stack : stacks_->stack[context];
  const std::size_t bytes = context == 0 ? stacks_->main_bytes : kFiberStackBytes;
  __sanitizer_start_switch_fiber(for_good ? nullptr : &stacks_->fake[from], bottom, bytes);
#endif
#ifdef TWINWALK_FIBERS_TSAN
  if (from == 0) stacks_->thread[0] = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(stacks_->thread[context], 0);
#endif
  twinwalk_switch_stacks(&stacks_->pointer[from], stacks_->pointer[context]);
  arrived();
}

// What comes first on a stack that was switched to.
void Fibers::arrived() {
#ifdef TWINWALK_FIBERS_ASAN
  const void* bottom = nullptr;
  std::size_t bytes = 0;
  __sanitizer_finish_switch_fiber(stacks_->fake[current_], &bottom, &bytes);
  stacks_->fake[current_] = nullptr;
  if (stacks_->left == 0) {
    stacks_->main_stack = bottom;
    stacks_->main_bytes = bytes;
  }
#endif
}

void Fibers::enter(Fibers& self) {
  self.arrived();
  const unsigned me = self.current_;
  self.body_[me](self.argument_[me]);
  self.state_[me] = State::kFree;
  --self.alive_;
  self.switch_to(self.resumed_by_[me], true);
  std::abort();  // nobody resumes what has ended
}

unsigned Fibers::start(Body body, void* argument) {
  unsigned n = 1;
  while (n <= kMost && state_[n] != State::kFree) ++n;
  if (n > kMost) return 0;
  body_[n] = body;
  argument_[n] = argument;
  // As if it had called twinwalk_switch_stacks() from where nothing returns to: six registers, then
  // the address to go to, where the stack is aligned to 16 bytes.
  auto* const top = reinterpret_cast<std::uintptr_t*>(stacks_->stack[n] + kFiberStackBytes);
  std::uintptr_t* const first = top - 9;
  for (unsigned i = 0; i < 9; ++i) first[i] = 0;
  first[4] = reinterpret_cast<std::uintptr_t>(this);            // rbx
  first[5] = reinterpret_cast<std::uintptr_t>(&Fibers::enter);  // rbp
  first[6] = reinterpret_cast<std::uintptr_t>(&twinwalk_enter_fiber);
  stacks_->pointer[n] = first;
  state_[n] = State::kWaiting;
  ++alive_;
  resume(n);
  return n;
}

void Fibers::resume(unsigned fiber) {
  state_[fiber] = State::kRunning;
  resumed_by_[fiber] = current_;
  switch_to(fiber, false);
}

void Fibers::wait() {
  state_[current_] = State::kWaiting;
  switch_to(resumed_by_[current_], false);
}

void Fibers::desert() {
  deserted_ = true;
  for (State& s : state_) s = State::kFree;
  alive_ = 0;
  switch_to(0, true);
  std::abort();
}

void Fibers::forget_all() {
  for (State& s : state_) s = State::kFree;
  alive_ = 0;
  deserted_ = false;
}

}  // namespace twinwalk
