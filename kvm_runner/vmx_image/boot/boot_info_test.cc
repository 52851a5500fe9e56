#include "kvm_runner/vmx_image/boot/boot_info.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace twinwalk::vmx {
namespace {

constexpr std::uint64_t kMiB = 1 << 20, kLimit = std::uint64_t{4} << 30;

// What a loader would hand over, somewhere in this process.
class Information {
 public:
  Information() { put({0, 0}); }
  void module(std::uint32_t begin, std::uint32_t end) { put({3, 17, begin, end, 0, 0}); }
  void memory(const std::vector<Span>& available, const Span& reserved) {
    const auto bytes = static_cast<std::uint32_t>(16 + 24 * (available.size() + 1));
    put({6, bytes, 24, 0});
    for (const Span& s : available) entry(s, 1);
    entry(reserved, 2);
  }
  BootInfo read() {
    put({0, 8});
    words_[0] = static_cast<std::uint32_t>(4 * words_.size());
    return BootInfo(reinterpret_cast<const unsigned char*>(words_.data()));
  }

 private:
  void put(std::initializer_list<std::uint32_t> words) {
    words_.insert(words_.end(), words);
    if (words_.size() % 2 != 0) words_.push_back(0);
  }
  void entry(const Span& s, std::uint32_t type) {
    const auto half = [](std::uint64_t v, unsigned n) {
      return static_cast<std::uint32_t>(v >> 32 * n);
    };
    put({half(s.begin, 0), half(s.begin, 1), half(s.bytes(), 0), half(s.bytes(), 1), type, 0});
  }
  std::vector<std::uint32_t> words_;
};

TEST(BootInfo, FindsTheModule) {
  Information info;
  info.module(0x10'0000, 0x10'0123);
  info.module(0x20'0000, 0x20'0001);
  const Span module = info.read().module();
  EXPECT_EQ(module.begin, 0x10'0000u);
  EXPECT_EQ(module.end, 0x10'0123u);
}

TEST(BootInfo, HasNoModuleWhereThereIsNone) {
  Information info;
  EXPECT_EQ(info.read().module().bytes(), 0u);
}

TEST(BootInfo, TakesTheLargestPieceBetweenWhatIsUsed) {
  Information info;
  info.module(100 * kMiB, 100 * kMiB + 5);
  info.memory({{0, 640 << 10}, {kMiB, 256 * kMiB}}, {256 * kMiB, 300 * kMiB});
  const Span free = info.read().largest_free({2 * kMiB, 3 * kMiB}, kLimit);
  EXPECT_EQ(free.begin, 100 * kMiB + 4096);
  EXPECT_EQ(free.end, 256 * kMiB);
}

TEST(BootInfo, EndsAPieceWhereSomethingUsedBegins) {
  Information info;
  info.module(200 * kMiB + 7, 250 * kMiB);
  info.memory({{kMiB, 256 * kMiB}}, {});
  const Span free = info.read().largest_free({2 * kMiB, 3 * kMiB}, kLimit);
  EXPECT_EQ(free.begin, 3 * kMiB);
  EXPECT_EQ(free.end, 200 * kMiB);
}

TEST(BootInfo, StaysBelowTheLimit) {
  Information info;
  info.memory({{3 * (kLimit / 4), 2 * kLimit}}, {});
  const Span free = info.read().largest_free({2 * kMiB, 3 * kMiB}, kLimit);
  EXPECT_EQ(free.end, kLimit);
}

}  // namespace
}  // namespace twinwalk::vmx
