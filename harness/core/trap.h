#ifndef TWINWALK_HARNESS_CORE_TRAP_H_
#define TWINWALK_HARNESS_CORE_TRAP_H_

// How a panic of the core, which must not return, ends a run and not the process: by longjmp. What
// is jumped over are frames of the core and of the adapter, none of which may own anything; what
// the core held lies in storage that the next run clears.

#include <csetjmp>

namespace twinwalk {

class Trap {
 public:
  // False if f ended in spring().
  template <class F>
  [[gnu::noinline]] bool run(F&& f) {
    if (setjmp(at_) != 0) return false;
    f();
    return true;
  }
  // Precondition: inside run().
  [[noreturn]] void spring() { std::longjmp(at_, 1); }

 private:
  std::jmp_buf at_;
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_CORE_TRAP_H_
