#include "oracle/course.h"

namespace twinwalk::oracle {

unsigned Chooser::pick(unsigned n) {
  if (n <= 1) return 0;
  if (used_ == kMost) {
    too_long_ = true;
    return 0;
  }
  if (used_ == known_) {
    taken_[used_] = 0;
    of_[used_] = static_cast<std::uint16_t>(n);
    ++known_;
  }
  return taken_[used_++];
}

bool Chooser::advance() {
  known_ = used_;
  used_ = 0;
  while (known_ != 0 && ++taken_[known_ - 1] == of_[known_ - 1]) --known_;
  return known_ != 0;
}

}  // namespace twinwalk::oracle
