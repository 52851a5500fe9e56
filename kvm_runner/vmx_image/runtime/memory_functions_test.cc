// The image's memory functions against plain loops, at all small lengths and alignments.

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>

// By other names here, beside the C library's, which this program needs.
extern "C" {
void* image_memcpy(void* to, const void* from, std::size_t bytes);
void* image_memmove(void* to, const void* from, std::size_t bytes);
void* image_memset(void* to, int value, std::size_t bytes);
int image_memcmp(const void* a, const void* b, std::size_t bytes);
const void* image_memchr(const void* in, int value, std::size_t bytes);
std::size_t image_strlen(const char* text);
}

namespace twinwalk::vmx {
namespace {

constexpr std::size_t kMost = 40, kRoom = 64;
using Bytes = std::array<unsigned char, kRoom>;

Bytes counted() {
  Bytes bytes;
  for (std::size_t i = 0; i < kRoom; ++i) bytes[i] = static_cast<unsigned char>(0xf0 + 3 * i);
  return bytes;
}

// fn(to, from, length) for all that fit.
template <class Fn>
void each_place(Fn fn) {
  for (std::size_t length = 0; length <= kMost; ++length) {
    for (std::size_t to = 0; to < 12; ++to) {
      for (std::size_t from = 0; from < 12; ++from) fn(to, from, length);
    }
  }
}

TEST(MemoryFunctions, MemmoveIsRightWhereBothOverlap) {
  each_place([](std::size_t to, std::size_t from, std::size_t length) {
    Bytes got = counted(), wanted = counted();
    for (std::size_t i = 0; i < length; ++i) wanted[to + i] = counted()[from + i];
    EXPECT_EQ(image_memmove(&got[to], &got[from], length), &got[to]);
    EXPECT_EQ(got, wanted) << to << ' ' << from << ' ' << length;
  });
}

TEST(MemoryFunctions, MemcpyCopiesThatMuchAndNoMore) {
  each_place([](std::size_t to, std::size_t from, std::size_t length) {
    const Bytes source = counted();
    Bytes got{}, wanted{};
    for (std::size_t i = 0; i < length; ++i) wanted[to + i] = source[from + i];
    EXPECT_EQ(image_memcpy(&got[to], &source[from], length), &got[to]);
    EXPECT_EQ(got, wanted) << to << ' ' << from << ' ' << length;
  });
}

// Its value is converted to a byte.
TEST(MemoryFunctions, MemsetSetsThatMuchAndNoMore) {
  each_place([](std::size_t to, std::size_t, std::size_t length) {
    Bytes got = counted(), wanted = counted();
    for (std::size_t i = 0; i < length; ++i) wanted[to + i] = 0xa5;
    EXPECT_EQ(image_memset(&got[to], 0x7a5, length), &got[to]);
    EXPECT_EQ(got, wanted) << to << ' ' << length;
  });
}

TEST(MemoryFunctions, MemchrFindsTheFirstOne) {
  for (const int value : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
    // Neighbours by one differ from it by a borrow or a carry.
    for (const int other : {value - 1, value + 1, value ^ 0x80}) {
      each_place([&](std::size_t at, std::size_t from, std::size_t length) {
        Bytes bytes;
        bytes.fill(static_cast<unsigned char>(other));
        if (from + at < kRoom) bytes[from + at] = static_cast<unsigned char>(value);
        bytes[kRoom - 1] = static_cast<unsigned char>(value);
        const void* const wanted = at < length ? &bytes[from + at] : nullptr;
        EXPECT_EQ(image_memchr(&bytes[from], value, length), wanted)
            << at << ' ' << from << ' ' << length;
      });
    }
  }
}

TEST(MemoryFunctions, MemcmpComparesBytesWithoutSign) {
  const unsigned char low[] = {1, 2, 0x7f}, high[] = {1, 2, 0x80};
  EXPECT_LT(image_memcmp(low, high, 3), 0);
  EXPECT_GT(image_memcmp(high, low, 3), 0);
  EXPECT_EQ(image_memcmp(low, high, 2), 0);
}

TEST(MemoryFunctions, StrlenCountsUpToTheNul) { EXPECT_EQ(image_strlen("twin\0walk"), 4u); }

}  // namespace
}  // namespace twinwalk::vmx
