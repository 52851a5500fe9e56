#ifndef TWINWALK_ORACLE_IMAGE_H_
#define TWINWALK_ORACLE_IMAGE_H_

// The reference's own guest memory. Content belongs to the host-virtual page;
// memslots (memslots.h) are views of it and may alias. It is one flat array, so
// that a word of a table is one load; a bit says for each 64-byte line whether
// this trace has stored to it.
//
//   gpa ──Memslots──► hva ──┬──► words_ ──► word
//                           └──► lines_ ──► bit clear: seed_word, or 0 after an invalidation
//
// Every word that holds or held a present entry also has its past (Version); a word of 32-bit
// paging is two entries, see EntryPast.

#include <cstdint>
#include <memory>
#include <vector>

#include "harness/trace/content.h"
#include "harness/trace/x86.h"
#include "oracle/lazy_array.h"
#include "oracle/memslots.h"

namespace twinwalk::oracle {

inline constexpr Time kStillThere = ~Time{0};

// Who gave a word its next value.
enum class Hand : std::uint8_t {
  kGuest,   // a store of the guest, native or emulated
  kHost,    // an untracked edit by the host process
  kWalker,  // accessed and dirty bits set by a walk
  kOpen,  // the same, but the walk may have been, or not: open_bits.h. Nothing was written for sure
};

// P of an 8-byte entry, or of either of two 4-byte entries.
inline constexpr std::uint64_t kSomePresent = pte::kP | pte::kP << 32;

// One value with some of the bits of Image::reset set that a word had during [begin, end).
struct Version {
  std::uint64_t value = 0;
  // GuestMemory::page_of the gpa through which this and the next value were stored.
  std::uint64_t maker_page = 0, ender_page = 0;
  Time begin = 0;
  Time end = kStillThere;
  std::uint32_t previous = 0;  // index of the older version, 0 = none
  Hand maker = Hand::kGuest, ender = Hand::kGuest;
};

class Image {
 public:
  Image();

  // Forgets everything. Costs what was touched. `present`: bits of a word some of which an entry
  // has that may be cached.
  void reset(std::uint64_t present = kSomePresent);

  // `hva` is 8-aligned in the backed range, here and below.
  std::uint64_t load(std::uint64_t hva) const { return load_at(hva - kHvaBase); }
  // The same by the distance from kHvaBase.
  std::uint64_t load_at(std::uint64_t offset) const {
    if (lines_[offset >> 12] >> ((offset >> 6) & 63) & 1) [[likely]]
      return words_.at_byte(offset);
    return unstored_word(offset);
  }
  // `page` says through which gfn the store came (GuestMemory::page_of).
  void store(std::uint64_t hva, std::uint64_t value, Time now, Hand hand, std::uint64_t page);

  // The host drops the frames of `pages` pages from `hva` (page-aligned; what lies outside the
  // backed range is left out): they read as zero from now on. For page tables in them that is an
  // untracked edit.
  void drop(std::uint64_t hva, std::uint64_t pages, Time now);
  // Their contents move to other frames.
  void moved(std::uint64_t hva, std::uint64_t pages, Time now);
  // When the page's frame last changed (drop, moved); 0 = never.
  Time frame_since(std::uint64_t hva) const { return swept_ ? frame_since_sweeps(hva) : 0; }

  // The newest version of a word, or nullptr; older ones by `previous`.
  const Version* newest(std::uint64_t hva) const;
  const Version* older(const Version& version) const {
    return version.previous == 0 ? nullptr : &versions_[version.previous];
  }

 private:
  // What is known of a page that this trace has stored to.
  struct Page {
    std::uint32_t index = 0;    // its number, from kHvaBase
    std::uint32_t history = 0;  // 1 + index into histories_, 0 = none
    Time frame_since = 0;
    bool zeroed = false;
  };
  struct History {
    std::uint32_t newest[512];
  };
  // A host event over pages of which some were never touched: kept as a range, so that it costs no
  // memory.
  struct Sweep {
    std::uint64_t begin = 0, end = 0;  // hva
    Time time = 0;
    bool zeroes = false;
  };
  // In places_: the kernel has given memory to the page's words. The rest is 1 + index into pages_,
  // 0 = none.
  static constexpr std::uint32_t kBacked = std::uint32_t{1} << 31;
  // That much memory (16 MiB) is kept from trace to trace.
  static constexpr std::size_t kMostBacked = 4096;

  static std::size_t index_of(std::uint64_t hva) { return (hva - kHvaBase) / kPageBytes; }
  const Page* find(std::uint64_t hva) const {
    const std::uint32_t place = places_[index_of(hva)] & ~kBacked;
    return place == 0 ? nullptr : &pages_[place - 1];
  }
  Page& touch(std::uint64_t hva);
  [[gnu::noinline]] std::uint64_t unstored_word(std::uint64_t offset) const;
  Time frame_since_sweeps(std::uint64_t hva) const;
  Time sweep_time(std::uint64_t hva) const;
  bool sweep_zeroes(std::uint64_t hva) const;
  void sweep(std::uint64_t hva, std::uint64_t pages, Time now, bool zeroes);
  void drop_page(Page& page, Time now);
  std::uint64_t& word(const Page& page, std::uint64_t hva);
  void record(Page& page, std::uint64_t hva, std::uint64_t before, std::uint64_t after, Time now,
              Hand hand, std::uint64_t through);

  LazyArray<std::uint64_t> words_, lines_;  // a word; a page: which 64-byte lines are in words_
  LazyArray<std::uint32_t> places_;         // a page
  std::vector<std::uint32_t> backed_;       // pages with kBacked
  std::vector<Page> pages_;
  std::vector<std::unique_ptr<History>> histories_;
  std::vector<Sweep> sweeps_;
  std::vector<Version> versions_;  // [0] is unused
  std::size_t used_histories_ = 0;
  std::uint64_t present_ = kSomePresent;
  bool swept_ = false;  // the host has dropped or moved frames in this trace
};

// The values with P=1 that one entry of 8 or 4 bytes had, newest first. To a 4-byte entry it is
// nothing that the other half of its word changed.
class EntryPast {
 public:
  // `hva` of the entry.
  EntryPast(const Image& image, std::uint64_t hva, unsigned bytes)
      : image_(image),
        version_(image.newest(hva & ~std::uint64_t{7})),
        shift_(hva & 7 ? 32 : 0),
        mask_(bytes == 4 ? 0xffff'ffff : ~std::uint64_t{0}) {}

  // False: there is no older one.
  bool next(Version& out);

 private:
  std::uint64_t value_of(const Version& v) const { return v.value >> shift_ & mask_; }

  const Image& image_;
  const Version* version_;
  unsigned shift_;
  std::uint64_t mask_;
};

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_IMAGE_H_
