#include "kvm_runner/stored_words.h"

#include <algorithm>

#include "harness/trace/content.h"

namespace twinwalk::kvm {

void StoredWords::store(std::uint64_t gpa, unsigned size, std::uint64_t value) {
  for (unsigned i = 0; i < size; ++i) {
    const std::uint64_t at = gpa + i;
    const unsigned shift = (at & 7) * 8;
    const std::uint64_t now = this->word(at & ~std::uint64_t{7});
    std::uint64_t& word = words_.try_emplace(at & ~std::uint64_t{7}, now).first->second;
    word = (word & ~(std::uint64_t{0xff} << shift)) | (value >> (8 * i) & 0xff) << shift;
  }
}

void StoredWords::clear(std::uint64_t gpa, std::uint64_t bytes) {
  for (auto& [at, value] : words_) {
    if (at - gpa < bytes) value = 0;
  }
  cleared_.push_back({gpa, bytes});
}

std::uint64_t StoredWords::word(std::uint64_t gpa) const {
  const auto found = words_.find(gpa);
  if (found != words_.end()) return found->second;
  const auto holds = [gpa](const Range& range) { return gpa - range.first < range.bytes; };
  const bool cleared = gpa >= bytes_ || std::any_of(cleared_.begin(), cleared_.end(), holds);
  return cleared ? 0 : seed_word(gpa);
}

}  // namespace twinwalk::kvm
