#include "harness/core/interleaver.h"

namespace twinwalk {
namespace {

// The trace's word for the core's.
Point point_of(mmu::YieldPoint point) {
  static_assert(static_cast<unsigned>(Point::kAfterWalk) ==
                static_cast<unsigned>(mmu::YieldPoint::kAfterWalk) + 1);
  static_assert(static_cast<unsigned>(Point::kAfterUnlock) ==
                static_cast<unsigned>(mmu::YieldPoint::kAfterUnlock) + 1);
  static_assert(static_cast<unsigned>(Point::kMidWalk) ==
                static_cast<unsigned>(mmu::YieldPoint::kMidWalk) + 1);
  return static_cast<Point>(static_cast<unsigned>(point) + 1);
}

}  // namespace

void Interleaver::reset() {
  fibers_.forget_all();
  for (unsigned& owner : owner_) owner = kNobody;
  for (std::uint32_t& sharers : sharers_) sharers = 0;
  for (unsigned& sections : sections_) sections = 0;
  inside_ = 0;
  outer_over_ = true;
  next_ = end_ = 0;
}

std::size_t Interleaver::begin(const Program& program, std::size_t outer) {
  program_ = &program;
  next_ = end_ = outer + 1;
  while (end_ < program.steps.size() && program.steps[end_].what.point != Point::kNone) ++end_;
  started_ = 0;
  pauses_ = 0;
  outer_over_ = false;
  return end_;
}

// Blocks are told apart by their points: those of one point are one block.
void Interleaver::reached(mmu::YieldPoint at) {
  if (fibers_.current() != 0 || next_ == end_) return;
  const Point point = point_of(at);
  if (started_ >> static_cast<unsigned>(point) & 1) return;
  for (std::size_t i = next_; i < end_; ++i) {
    if (program_->steps[i].what.point != point) continue;
    started_ |= 1u << static_cast<unsigned>(point);
    return start_block({i, end_});
  }
}

void Interleaver::finish() {
  outer_over_ = true;
  for (std::size_t i = next_; i < end_; ++i) {
    const auto point = static_cast<unsigned>(program_->steps[i].what.point);
    if (started_ >> point & 1) continue;
    started_ |= 1u << point;
    start_block({i, end_});
  }
  next_ = end_;
  while (fibers_.any_alive()) {
    if (!let_one_go_on()) runner_.broken("the contexts wait for each other");
  }
}

void Interleaver::start_block(Block block) {
  starting_ = block;
  // More blocks than fibers: it runs where it is.
  if (fibers_.start(&run_block, this) == 0) run_block(this);
  check_left();
}

void Interleaver::run_block(void* self) {
  auto& me = *static_cast<Interleaver*>(self);
  const Block block = me.starting_;
  me.awaits_[me.fibers_.current()] = {};
  const Point point = me.program_->steps[block.begin].what.point;
  for (std::size_t i = block.begin; i < block.end; ++i) {
    if (me.program_->steps[i].what.point == point) me.runner_.run_inside(i);
  }
}

void Interleaver::check_left() {
  if (fibers_.deserted() && fibers_.current() == 0) runner_.left_for_good();
}

bool Interleaver::can_go_on(unsigned fiber) const {
  return fibers_.waits(fiber) && is_free(awaits_[fiber], fiber);
}

void Interleaver::go_on(unsigned fiber) {
  turn_ = fiber;
  fibers_.resume(fiber);
  check_left();
}

// Each in its turn, so that one which goes on in vain does not keep the others from it.
bool Interleaver::let_one_go_on() {
  for (unsigned n = 0; n < Fibers::kMost; ++n) {
    const unsigned fiber = (turn_ + n) % Fibers::kMost + 1;
    if (!can_go_on(fiber)) continue;
    go_on(fiber);
    return true;
  }
  return false;
}

bool Interleaver::is_free(Want want, unsigned context) const {
  if (want.lock == kNobody) return true;
  if (want.lock == kSections) {
    for (unsigned other = 0; other <= Fibers::kMost; ++other)
      if (other != context && sections_[other] != 0) return false;
    return true;
  }
  return owner_[want.lock] == kNobody && (want.shared || sharers_[want.lock] == 0);
}

void Interleaver::wait_for(Want want) {
  const unsigned me = fibers_.current();
  const bool held = want.lock == kSections
                        ? sections_[me] != 0
                        : owner_[want.lock] == me || (sharers_[want.lock] >> me & 1) != 0;
  if (held) runner_.broken("a lock is taken twice");
  while (!is_free(want, me)) {
    if (me == 0) {
      if (!let_one_go_on()) runner_.broken("the contexts wait for each other");
      continue;
    }
    awaits_[me] = want;
    fibers_.wait();
    awaits_[me] = {};
  }
}

// Who waits for it goes on at once.
void Interleaver::wake(unsigned lock) {
  if (!fibers_.any_alive()) return;
  for (unsigned fiber = 1; fiber <= Fibers::kMost; ++fiber) {
    if (awaits_[fiber].lock == lock && can_go_on(fiber)) go_on(fiber);
  }
}

void Interleaver::lock(mmu::LockId id) {
  const auto n = static_cast<unsigned>(id);
  wait_for({n, false});
  owner_[n] = fibers_.current();
}

void Interleaver::unlock(mmu::LockId id) {
  const auto n = static_cast<unsigned>(id);
  if (owner_[n] != fibers_.current()) runner_.broken("a lock is given back that is not held");
  owner_[n] = kNobody;
  wake(n);
}

void Interleaver::lock_shared(mmu::LockId id) {
  const auto n = static_cast<unsigned>(id);
  wait_for({n, true});
  sharers_[n] |= 1u << fibers_.current();
}

void Interleaver::unlock_shared(mmu::LockId id) {
  const auto n = static_cast<unsigned>(id);
  const std::uint32_t me = 1u << fibers_.current();
  if ((sharers_[n] & me) == 0) runner_.broken("a lock is given back that is not held");
  sharers_[n] &= ~me;
  wake(n);
}

void Interleaver::end_section() {
  if (--sections_[fibers_.current()] == 0) wake(kSections);
}

bool Interleaver::pause() {
  if (!fibers_.any_alive() || ++pauses_ > kMostPauses) return false;
  const unsigned me = fibers_.current();
  if (me == 0) return let_one_go_on();
  bool others = !outer_over_;
  for (unsigned fiber = 1; fiber <= Fibers::kMost; ++fiber)
    others |= fiber != me && fibers_.waits(fiber);
  if (others) fibers_.wait();
  return others;
}

}  // namespace twinwalk
