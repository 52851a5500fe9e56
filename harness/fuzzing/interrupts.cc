#include "harness/fuzzing/interrupts.h"

namespace twinwalk::fuzz {
namespace {

volatile std::sig_atomic_t seen = 0;
void on_signal(int) { seen = 1; }

}  // namespace

bool interrupted() { return seen != 0; }
void forget_interrupt() { seen = 0; }

Interrupts::Interrupts() {
  forget_interrupt();
  struct sigaction action = {};
  action.sa_handler = on_signal;
  ::sigaction(SIGINT, &action, &old_int_);
  ::sigaction(SIGTERM, &action, &old_term_);
}

Interrupts::~Interrupts() {
  ::sigaction(SIGINT, &old_int_, nullptr);
  ::sigaction(SIGTERM, &old_term_, nullptr);
}

}  // namespace twinwalk::fuzz
