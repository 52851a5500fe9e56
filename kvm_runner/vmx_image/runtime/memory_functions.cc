// What compilers take for granted. Compiled so that no loop here becomes a call of itself. By words
// of eight bytes: an emulator takes each repetition of a string instruction for one of its own.

#include <cstddef>
#include <cstdint>

namespace {

constexpr std::size_t kWord = sizeof(std::uint64_t);

// As Mycroft's trick tells: the lowest byte of the result that is not 0 is where `word` has a zero.
constexpr std::uint64_t zero_bytes(std::uint64_t word) {
  return (word - 0x0101'0101'0101'0101u) & ~word & 0x8080'8080'8080'8080u;
}

std::uint64_t load_word(const unsigned char* at) {
  std::uint64_t word;
  asm("movq %1, %0" : "=r"(word) : "m"(*reinterpret_cast<const unsigned char(*)[kWord]>(at)));
  return word;
}

}  // namespace

extern "C" {

// Correct too where `to` is below `from` and both overlap.
void* memcpy(void* to, const void* from, std::size_t bytes) {
  void* const begin = to;
  std::size_t words = bytes / kWord, rest = bytes % kWord;
  asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(rest) : : "memory");
  return begin;
}

void* memmove(void* to, const void* from, std::size_t bytes) {
  auto* t = static_cast<unsigned char*>(to);
  const auto* f = static_cast<const unsigned char*>(from);
  if (t <= f || t >= f + bytes) return memcpy(to, from, bytes);
  while (bytes-- != 0) t[bytes] = f[bytes];
  return to;
}

void* memset(void* to, int value, std::size_t bytes) {
  void* const begin = to;
  const std::uint64_t pattern = static_cast<unsigned char>(value) * 0x0101'0101'0101'0101u;
  std::size_t words = bytes / kWord, rest = bytes % kWord;
  asm volatile("rep stosq" : "+D"(to), "+c"(words) : "a"(pattern) : "memory");
  asm volatile("rep stosb" : "+D"(to), "+c"(rest) : "a"(pattern) : "memory");
  return begin;
}

int memcmp(const void* a, const void* b, std::size_t bytes) {
  const auto* x = static_cast<const unsigned char*>(a);
  const auto* y = static_cast<const unsigned char*>(b);
  for (std::size_t i = 0; i < bytes; ++i) {
    if (x[i] != y[i]) return x[i] < y[i] ? -1 : 1;
  }
  return 0;
}

const void* memchr(const void* in, int value, std::size_t bytes) {
  const auto* at = static_cast<const unsigned char*>(in);
  const std::uint64_t pattern = static_cast<unsigned char>(value) * 0x0101'0101'0101'0101u;
  std::size_t i = 0;
  while (bytes - i >= kWord && zero_bytes(load_word(at + i) ^ pattern) == 0) i += kWord;
  for (; i < bytes; ++i) {
    if (at[i] == static_cast<unsigned char>(value)) return at + i;
  }
  return nullptr;
}

std::size_t strlen(const char* text) {
  std::size_t n = 0;
  while (text[n] != '\0') ++n;
  return n;
}
}
