#include "fuzzers/population.h"

#include <algorithm>
#include <bit>

namespace twinwalk::fuzz {
namespace {

// What was new last is changed half of the time: what it found is the least explored.
constexpr std::size_t kRecent = 24;

}  // namespace

void Population::add_seed(const Trace& trace) {
  const std::lock_guard lock(mutex_);
  seeds_.push_back(trace);
}

bool Population::take_seed(Trace& out) {
  const std::lock_guard lock(mutex_);
  if (seeds_.empty()) return false;
  out = std::move(seeds_.back());
  seeds_.pop_back();
  return true;
}

unsigned Population::learn(const Trace& trace, bool worth, std::span<const ReachedState> reached) {
  const std::lock_guard lock(mutex_);
  unsigned fresh = 0;
  for (const ReachedState& r : reached) {
    std::uint8_t& known = known_[r.state];
    const auto bits = static_cast<std::uint8_t>(r.bits & ~known);
    if (bits == 0) continue;
    if (known == 0) ++states_;
    known |= bits;
    fresh += static_cast<unsigned>(std::popcount(bits));
  }
  if (fresh != 0 && worth) kept_.push_back(trace);
  return fresh;
}

bool Population::pick(Rng& rng, Trace& out) const {
  const std::lock_guard lock(mutex_);
  if (kept_.empty()) return false;
  const std::size_t most = rng.flip() ? std::min(kRecent, kept_.size()) : kept_.size();
  out = kept_[kept_.size() - 1 - rng.below(most)];
  return true;
}

std::size_t Population::size() const {
  const std::lock_guard lock(mutex_);
  return kept_.size();
}

std::size_t Population::states() const {
  const std::lock_guard lock(mutex_);
  return states_;
}

}  // namespace twinwalk::fuzz
