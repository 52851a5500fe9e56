#ifndef TWINWALK_HARNESS_BENCH_PLAIN_WALKER_H_
#define TWINWALK_HARNESS_BENCH_PLAIN_WALKER_H_

// The limit that walkers are held against: the least that a 4-level walk with its permission check
// can do in plain C++, over memory that is one flat array. It reports a fault's error code but
// updates nothing, caches nothing, and knows neither large pages' reserved bits nor protection
// keys.
//
// In two dimensions: four levels of each, pages of 4K throughout, a read.

#include <cstdint>
#include <vector>

namespace twinwalk::bench {

class PlainWalker {
 public:
  explicit PlainWalker(std::uint64_t bytes) : words_(bytes / 8) {}

  std::uint64_t& word(std::uint64_t gpa) { return words_[gpa / 8]; }

  struct Result {
    std::uint64_t gpa = 0;
    std::uint32_t error_code = 0;
    bool fault = false;
  };
  // Walks the tables at `cr3` for `gva`. Precondition: every table lies in memory.
  Result walk(std::uint64_t cr3, std::uint64_t gva, bool write, bool user, bool fetch) const {
    constexpr std::uint64_t kAddress = 0x000f'ffff'ffff'f000;
    constexpr std::uint64_t kPresent = 1, kWritable = 2, kUser = 4, kLarge = 0x80;
    std::uint64_t table = cr3 & kAddress;
    std::uint64_t rights = kWritable | kUser;
    std::uint64_t no_execute = 0;
    const std::uint32_t asked = (write ? 2u : 0u) | (user ? 4u : 0u) | (fetch ? 16u : 0u);
    for (int shift = 39;; shift -= 9) {
      const std::uint64_t entry = words_[(table + ((gva >> shift) & 511) * 8) / 8];
      if ((entry & kPresent) == 0) return {0, asked, true};
      rights &= entry;
      no_execute |= entry >> 63;
      if (shift == 12 || (shift <= 30 && (entry & kLarge) != 0)) {
        const std::uint64_t needed = (write ? kWritable : 0) | (user ? kUser : 0);
        if ((rights & needed) != needed || (fetch && no_execute != 0)) return {0, asked | 1, true};
        const std::uint64_t mask = (std::uint64_t{1} << shift) - 1;
        return {(entry & kAddress & ~mask) | (gva & mask), 0, false};
      }
      table = entry & kAddress;
    }
  }

  // Of the tables at `root`, which translate those at `cr3`; where the byte is, 0 if nowhere.
  std::uint64_t walk_nested(std::uint64_t root, std::uint64_t cr3, std::uint64_t gva) const {
    constexpr std::uint64_t kAddress = 0x000f'ffff'ffff'f000;
    std::uint64_t gpa = cr3 & kAddress;
    for (int shift = 39; shift >= 12; shift -= 9) {
      const std::uint64_t at = translate(root, gpa + ((gva >> shift) & 511) * 8);
      if (at == 0) return 0;
      const std::uint64_t entry = words_[at / 8];
      if ((entry & 1) == 0) return 0;
      gpa = entry & kAddress;
    }
    return translate(root, gpa | (gva & 0xfff));
  }

 private:
  // Precondition: every table lies in memory.
  std::uint64_t translate(std::uint64_t root, std::uint64_t gpa) const {
    constexpr std::uint64_t kAddress = 0x000f'ffff'ffff'f000;
    std::uint64_t table = root & kAddress;
    std::uint64_t rights = 7;
    for (int shift = 39; shift >= 12; shift -= 9) {
      const std::uint64_t entry = words_[(table + ((gpa >> shift) & 511) * 8) / 8];
      rights &= entry;
      if ((rights & 1) == 0) return 0;
      table = entry & kAddress;
    }
    return table | (gpa & 0xfff);
  }

  std::vector<std::uint64_t> words_;
};

}  // namespace twinwalk::bench

#endif  // TWINWALK_HARNESS_BENCH_PLAIN_WALKER_H_
