#ifndef MMU_CORE_CONCURRENT_H_
#define MMU_CORE_CONCURRENT_H_

// What several contexts read and write without a lock in common (KVM: READ_ONCE, WRITE_ONCE and the
// barriers around them).

#include "mmu_core/types.h"

namespace mmu {

// A value that is read and written as a whole. Who reads it sees all that its writer did before.
template <class T>
class Concurrent {
 public:
  constexpr Concurrent() = default;
  constexpr Concurrent(T value) : value_(value) {}  // NOLINT(google-explicit-constructor): a T
  Concurrent(const Concurrent& other) : value_(other.load()) {}
  Concurrent& operator=(const Concurrent& other) { return *this = other.load(); }
  Concurrent& operator=(T value) {
    __atomic_store(&value_, &value, __ATOMIC_RELEASE);
    return *this;
  }
  operator T() const { return load(); }  // NOLINT(google-explicit-constructor): a T
  T load() const {
    T value;
    __atomic_load(&value_, &value, __ATOMIC_ACQUIRE);
    return value;
  }
  T exchange(T value) {
    T old;
    __atomic_exchange(&value_, &value, &old, __ATOMIC_ACQ_REL);
    return old;
  }

 private:
  T value_{};
};

// One more of what is only counted.
inline void bump(u64& count) { __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED); }

}  // namespace mmu

#endif  // MMU_CORE_CONCURRENT_H_
