#include "kvm_runner/stored_words.h"

#include <algorithm>

#include "harness/trace/content.h"

namespace twinwalk::kvm {

void StoredWords::store(std::uint64_t gpa, unsigned size, std::uint64_t value) {
  for (unsigned i = 0; i < size; ++i) {
    const std::uint64_t at = gpa + i;
    const unsigned shift = (at & 7) * 8;
    const std::uint64_t name = name_of(at);
    if (name == kUnknownGpa) continue;
    const std::uint64_t now = this->word(at & ~std::uint64_t{7});
    std::uint64_t& word = words_.try_emplace(name, now).first->second;
    word = (word & ~(std::uint64_t{0xff} << shift)) | (value >> (8 * i) & 0xff) << shift;
  }
}

void StoredWords::clear(std::uint64_t offset, std::uint64_t bytes) {
  for (auto& [at, value] : words_) {
    if (at - offset < bytes) value = 0;
  }
  cleared_.push_back({offset, bytes});
}

std::uint64_t StoredWords::word(std::uint64_t gpa) const {
  const std::uint64_t name = name_of(gpa);
  if (name == kUnknownGpa) return 0;
  const auto found = words_.find(name);
  if (found != words_.end()) return found->second;
  const auto holds = [name](const Range& range) { return name - range.first < range.bytes; };
  return std::any_of(cleared_.begin(), cleared_.end(), holds) ? 0 : seed_word(name);
}

}  // namespace twinwalk::kvm
