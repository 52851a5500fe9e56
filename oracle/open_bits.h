#ifndef TWINWALK_ORACLE_OPEN_BITS_H_
#define TWINWALK_ORACLE_OPEN_BITS_H_

// A and D bits that an access may have set or not, where the subject could not show which: of an
// entry that the access's own store took off the path, or of one off the present path. They stay
// open until a store or a later walk that is shown settles them. Mostly there are none.

#include <algorithm>
#include <cstdint>
#include <vector>

namespace twinwalk::oracle {

class OpenBits {
 public:
  bool empty() const { return words_.empty(); }
  void reset() { words_.clear(); }

  // `hva` is 8-aligned, here and below.
  std::uint64_t at(std::uint64_t hva) const {
    for (const Word& w : words_)
      if (w.hva == hva) return w.bits;
    return 0;
  }
  void open(std::uint64_t hva, std::uint64_t bits) {
    if (bits == 0) return;
    for (Word& w : words_) {
      if (w.hva != hva) continue;
      w.bits |= bits;
      return;
    }
    words_.push_back({hva, bits});
  }
  void close(std::uint64_t hva, std::uint64_t bits) {
    for (Word& w : words_)
      if (w.hva == hva) w.bits &= ~bits;
    std::erase_if(words_, [](const Word& w) { return w.bits == 0; });
  }
  // All in [begin, begin + bytes).
  void close_range(std::uint64_t begin, std::uint64_t bytes) {
    std::erase_if(words_, [=](const Word& w) { return w.hva - begin < bytes; });
  }

 private:
  struct Word {
    std::uint64_t hva, bits;
  };
  std::vector<Word> words_;
};

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_OPEN_BITS_H_
