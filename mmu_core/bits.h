#ifndef MMU_CORE_BITS_H_
#define MMU_CORE_BITS_H_

#include "mmu_core/types.h"

namespace mmu {

// Bits [lo, hi] of a word, numbered as the SDM's figures number them.
template <unsigned lo, unsigned hi = lo, class V = u64>
struct Field {
  static_assert(lo <= hi && hi < 64);
  static constexpr unsigned width = hi - lo + 1;
  static constexpr u64 mask = (~u64{0} >> (64 - width)) << lo;
  static constexpr V get(u64 w) { return static_cast<V>((w & mask) >> lo); }
  static constexpr u64 put(u64 w, V v) {
    return (w & ~mask) | ((static_cast<u64>(v) << lo) & mask);
  }
};

constexpr u64 bit(unsigned n) { return u64{1} << n; }
// Bits [lo, hi], or none if lo > hi.
constexpr u64 bits(unsigned lo, unsigned hi) {
  return lo > hi ? 0 : (~u64{0} >> (63 - hi + lo)) << lo;
}
static_assert(bits(0, 63) == ~u64{0} && bits(63, 63) == bit(63) && bits(5, 4) == 0);

}  // namespace mmu

#endif  // MMU_CORE_BITS_H_
