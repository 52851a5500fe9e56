#ifndef MMU_CORE_TYPES_H_
#define MMU_CORE_TYPES_H_

// Strong addresses: a guest address cannot be passed where a host one is meant.

#include <compare>
#include <cstdint>

namespace mmu {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

// A 64-bit address in exactly one address space; Tag is never defined.
template <class Tag>
struct Addr {
  u64 raw = 0;
  constexpr Addr() = default;
  explicit constexpr Addr(u64 v) : raw(v) {}
  friend constexpr auto operator<=>(Addr, Addr) = default;
  friend constexpr Addr operator+(Addr a, u64 n) { return Addr{a.raw + n}; }
  friend constexpr u64 operator-(Addr a, Addr b) { return a.raw - b.raw; }
};
using Gva = Addr<struct GvaTag>;  // guest linear
using Gpa = Addr<struct GpaTag>;  // guest physical
using Hva = Addr<struct HvaTag>;  // host virtual
using Hpa = Addr<struct HpaTag>;  // host physical

// A page number, in units of 4 KiB, of the same space as its address.
template <class A>
struct Frame {
  u64 raw = 0;
  constexpr Frame() = default;
  explicit constexpr Frame(u64 v) : raw(v) {}
  static constexpr Frame of(A a) { return Frame{a.raw >> 12}; }
  constexpr A base() const { return A{raw << 12}; }
  friend constexpr auto operator<=>(Frame, Frame) = default;
  friend constexpr Frame operator+(Frame f, u64 n) { return Frame{f.raw + n}; }
  friend constexpr u64 operator-(Frame a, Frame b) { return a.raw - b.raw; }
};
using Gfn = Frame<Gpa>;
using Pfn = Frame<Hpa>;

inline constexpr u64 kPageSize = 4096;
// Page levels: 1 = 4K, 2 = 2M, 3 = 1G.
constexpr u64 pages_of_level(unsigned level) { return u64{1} << (9 * (level - 1)); }

}  // namespace mmu

#endif  // MMU_CORE_TYPES_H_
