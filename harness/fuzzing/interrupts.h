#ifndef TWINWALK_HARNESS_FUZZING_INTERRUPTS_H_
#define TWINWALK_HARNESS_FUZZING_INTERRUPTS_H_

// SIGINT and SIGTERM as a wish to end in good order.

#include <csignal>

namespace twinwalk::fuzz {

// Since the last Interrupts was made, or forget_interrupt().
bool interrupted();
void forget_interrupt();

// Sets the handlers, and puts back what was there.
class Interrupts {
 public:
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

 private:
  struct sigaction old_int_ = {}, old_term_ = {};
};

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_INTERRUPTS_H_
