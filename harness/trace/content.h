#ifndef TWINWALK_HARNESS_TRACE_CONTENT_H_
#define TWINWALK_HARNESS_TRACE_CONTENT_H_

// What guest memory holds before anyone stores to it, and what stores put there:
// every word is unique, so a frame is known by what it holds.

#include <cstdint>

namespace twinwalk {

// The 8-byte word at guest-physical address `gpa` (aligned down to 8) at the start of a trace:
//   mov eax, H ; int3 ; nop ; nop        with H a hash of the address.
// It is executable at any 8-aligned address and its bits 0 and 32 are clear, so that a walk that
// strays into it finds "not present", be its entries of 8 bytes or of 4.
constexpr std::uint64_t seed_word(std::uint64_t gpa) {
  std::uint64_t h = (gpa >> 3) * 0x9E37'79B9'7F4A'7C15u;
  h ^= h >> 29;
  return 0xB8u | ((h & 0xfeff'ffffu) << 8) | (std::uint64_t{0xCC} << 40) |
         (std::uint64_t{0x9090} << 48);
}
constexpr bool is_seed_shaped(std::uint64_t word) {
  return (word & 0xffff'ff00'0000'00ffu) == 0x9090'CC00'0000'00B8u;
}

// What a store without `value=` writes: unique by step, bits 0 and 32 clear.
constexpr std::uint64_t store_stamp(std::uint32_t step) {
  return (std::uint64_t{0x5707'0000u | (step & 0xffff)} << 32 | (std::uint64_t{step} << 4)) * 2 +
         0xA0;
}

// What a load from a gpa without a memslot sees (the harness is the device), 8-byte word at gpa
// aligned down.
constexpr std::uint64_t mmio_word(std::uint64_t gpa) {
  return 0x3310'0000'0000'0000u | ((gpa & ~std::uint64_t{7}) & 0xf'ffff'ffff'ffffu);
}

// Bytes [offset, offset+size) of `word`, zero-extended; size 1..8.
constexpr std::uint64_t extract(std::uint64_t word, unsigned offset, unsigned size) {
  std::uint64_t v = word >> (8 * offset);
  return size >= 8 ? v : v & ((std::uint64_t{1} << (8 * size)) - 1);
}

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_TRACE_CONTENT_H_
