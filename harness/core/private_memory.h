#ifndef TWINWALK_HARNESS_CORE_PRIVATE_MEMORY_H_
#define TWINWALK_HARNESS_CORE_PRIVATE_MEMORY_H_

// Which guest-physical memory is private and which is shared, as the trace says. Kept beside the
// core's own, as the memslots are.

#include <cstdint>
#include <map>

namespace twinwalk {

class PrivateMemory {
 public:
  // All is private. `shared_bit` 0: there is only one kind.
  void reset(std::uint64_t shared_bit) {
    shared_bit_ = shared_bit;
    from_.clear();
    if (shared_bit != 0) from_[0] = true;
  }
  bool on() const { return shared_bit_ != 0; }

  // Precondition: the core has accepted it.
  void set(std::uint64_t gpa, std::uint64_t bytes, bool is_private) {
    const std::uint64_t end = gpa + bytes;
    if (end < shared_bit_) from_.try_emplace(end, is_private_at(end));
    from_.erase(from_.lower_bound(gpa), from_.lower_bound(end));
    from_[gpa] = is_private;
  }

  std::uint64_t without_bit(std::uint64_t gpa) const { return gpa & ~shared_bit_; }
  // The address at which that memory is reached.
  std::uint64_t shown_at(std::uint64_t gpa) const {
    return !on() || is_private_at(gpa) ? gpa : gpa | shared_bit_;
  }
  // Only the other kind of memory is there.
  bool of_other_kind(std::uint64_t gpa) const {
    return gpa < 2 * shared_bit_ && shown_at(without_bit(gpa)) != gpa;
  }

 private:
  bool is_private_at(std::uint64_t gpa) const {
    return gpa < shared_bit_ && (--from_.upper_bound(gpa))->second;
  }

  std::uint64_t shared_bit_ = 0;
  std::map<std::uint64_t, bool> from_;  // where each range begins; whether it is private
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_CORE_PRIVATE_MEMORY_H_
