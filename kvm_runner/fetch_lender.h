#ifndef TWINWALK_KVM_RUNNER_FETCH_LENDER_H_
#define TWINWALK_KVM_RUNNER_FETCH_LENDER_H_

// How a fetch is made to tell where it landed, and to do no harm there: every word that it may find
// is replaced, for as long as the instruction runs, by a seed word (mov eax, imm32; int3) of its
// own. EAX then names the word.
//
// A key is a position in the subject's memory by which it finds a word: an offset in hva space, or
// an hpa.

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "harness/trace/content.h"
#include "harness/trace/outcome.h"
#include "kvm_runner/layout.h"

namespace twinwalk::kvm {

class FetchLender {
 public:
  struct Lent {
    std::uint64_t key = 0, original = 0;
  };
  static constexpr std::uint64_t kNoKey = ~std::uint64_t{0};
  // From the target of the jump to where INT3 of the word has brought it.
  static constexpr std::uint64_t kWordLength = 6;

  void reset() {
    remembered_ = 0;
    shared_ = false;
    devices_.clear();
  }

  // This page leads, or has led, to no memory.
  void remember_device(std::uint64_t gva) {
    if (!led_to_device(gva)) devices_.push_back(gva / kPage);
  }
  bool led_to_device(std::uint64_t gva) const {
    return std::find(devices_.begin(), devices_.end(), gva / kPage) != devices_.end();
  }

  // This page of linear addresses, of that size, leads, or has led, to that page of memory: a stale
  // translation may find it again. The latest kMost are kept.
  void remember(std::uint64_t gva, std::uint64_t key, std::uint64_t bytes = kPage) {
    const std::uint64_t into = gva & (bytes - 1) & ~(kPage - 1);
    const Landing landing{(gva - into) / kPage, (key - into) / kPage, bytes / kPage};
    const auto end = landings_.begin() + std::min<std::size_t>(remembered_, kMost);
    if (std::find(landings_.begin(), end, landing) != end) return;
    landings_[remembered_++ % kMost] = landing;
  }

  // fn(key) for every place that the byte at gva leads, or has led, to.
  template <class Fn>
  void each_landing(std::uint64_t gva, Fn fn) const {
    const std::size_t count = std::min<std::size_t>(remembered_, kMost);
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint64_t page = gva / kPage - landings_[i].gva_page;
      if (page < landings_[i].pages) fn((landings_[i].key_page + page) * kPage + gva % kPage);
    }
  }

  // From now on a page may be led to by what another one has led to: the processor shares what it
  // knows of a table among all addresses that the table serves, and some of that may be old.
  void share_landings() { shared_ = true; }

  // fn(key) for every place that the byte at gva may be led to so.
  template <class Fn>
  void each_shared_landing(std::uint64_t gva, Fn fn) const {
    const std::size_t count = shared_ ? std::min<std::size_t>(remembered_, kMost) : 0;
    for (std::size_t i = 0; i < count; ++i) {
      const Landing& l = landings_[i];
      if (gva / kPage - l.gva_page < l.pages) continue;
      fn((l.key_page + (gva / kPage & (l.pages - 1))) * kPage + gva % kPage);
    }
  }

  // Chooses the words for a fetch of the aligned word at gva: the one that today's tables lead to
  // (kNoKey: none) and those remembered. `original(key, word)` gives what is there, or false if
  // that word must stay. False if one of them cannot be lent: what it holds would be run.
  template <class Original>
  bool choose(std::uint64_t gva, std::uint64_t today, const Path& path, Original original) {
    lent_.clear();
    const auto add = [&](std::uint64_t key) {
      const auto same = [&](const Lent& l) { return l.key == key; };
      if (std::any_of(lent_.begin(), lent_.end(), same)) return true;
      Lent word{key, 0};
      if (!original(key, word.original)) return false;
      const bool is_seed = word.original == seed_word(key);
      if (!is_seed && has_entry(path, word.original)) return false;
      lent_.push_back(word);
      return true;
    };
    bool lent_all = today == kNoKey || add(today);
    each_landing(gva, [&](std::uint64_t key) { lent_all = lent_all && add(key); });
    if (lent_all) each_shared_landing(gva, [&](std::uint64_t key) { static_cast<void>(add(key)); });
    return lent_all;
  }

  // put(key, word) stores. Words that hold their seed already are left alone.
  template <class Put>
  void lend(Put put) const {
    for (const Lent& l : lent_) {
      if (l.original != seed_word(l.key)) put(l.key, seed_word(l.key));
    }
  }
  template <class Put>
  void give_back(Put put) const {
    for (const Lent& l : lent_) {
      if (l.original != seed_word(l.key)) put(l.key, l.original);
    }
  }

  // The word whose seed put `eax` into EAX; nullptr if it is none of those lent.
  const Lent* found(std::uint64_t eax) const {
    for (const Lent& l : lent_) {
      if ((seed_word(l.key) >> 8 & 0xffff'ffff) == (eax & 0xffff'ffff)) return &l;
    }
    return nullptr;
  }

 private:
  // An entry of the walk is that word, or one of four bytes is half of it.
  static bool has_entry(const Path& path, std::uint64_t word) {
    const auto* end = path.entry + path.count;
    return std::any_of(path.entry, end, [&](std::uint64_t entry) {
      return entry == word || entry == (word & 0xffff'ffff) || entry == word >> 32;
    });
  }

  static constexpr std::size_t kMost = 64;
  struct Landing {
    std::uint64_t gva_page, key_page, pages;
    friend bool operator==(const Landing&, const Landing&) = default;
  };
  std::array<Landing, kMost> landings_{};
  std::size_t remembered_ = 0;
  bool shared_ = false;
  std::vector<std::uint64_t> devices_;  // pages of linear addresses
  std::vector<Lent> lent_;
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_FETCH_LENDER_H_
