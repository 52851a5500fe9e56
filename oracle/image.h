#ifndef TWINWALK_ORACLE_IMAGE_H_
#define TWINWALK_ORACLE_IMAGE_H_

// The reference's own guest memory. Content belongs to the host-virtual page;
// memslots (memslots.h) are views of it and may alias. It is sparse: a page is
// made by the first store to it and holds only the 64-byte lines stored to.
//
//   gpa ──Memslots──► hva ──directory (flat)──► Page ──line bit──► word
//                                   │ none              │ clear
//                                   └── seed_word       └── seed_word, or 0 after an invalidation
//
// Every word that holds or held a present entry also has its past (Version).

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "harness/trace/content.h"
#include "oracle/memslots.h"

namespace twinwalk::oracle {

inline constexpr Time kStillThere = ~Time{0};

// Who gave a word its next value.
enum class Hand : std::uint8_t {
  kGuest,   // a store of the guest, native or emulated
  kHost,    // an untracked edit by the host process
  kWalker,  // accessed and dirty bits set by a walk
};

// One value with bit 0 (P) set that a word had during [begin, end).
struct Version {
  std::uint64_t value = 0;
  std::uint64_t maker_page = 0,
                ender_page =
                    0;  // gpa of the page through which this and the next value were stored
  Time begin = 0;
  Time end = kStillThere;
  std::uint32_t previous = 0;  // index of the older version, 0 = none
  Hand maker = Hand::kGuest, ender = Hand::kGuest;
};

class Image {
 public:
  Image();

  // Forgets everything. Costs what was touched.
  void reset();

  // `hva` is 8-aligned in the backed range, here and below.
  std::uint64_t load(std::uint64_t hva) const {
    const Page* page = directory_[index_of(hva)];
    const std::uint64_t offset = hva - kHvaBase;
    if (page == nullptr) return sweeps_.empty() ? seed_word(offset) : untouched_word(hva);
    if (!(page->lines >> ((offset >> 6) & 63) & 1)) return page->zeroed ? 0 : seed_word(offset);
    return page->words[(offset >> 3) & 511];
  }
  // `page` is the gpa of the page through which the store came.
  void store(std::uint64_t hva, std::uint64_t value, Time now, Hand hand, std::uint64_t page);

  // The host drops the frames of `pages` pages from `hva` (page-aligned; what lies outside the
  // backed range is left out): they read as zero from now on. For page tables in them that is an
  // untracked edit.
  void drop(std::uint64_t hva, std::uint64_t pages, Time now);
  // Their contents move to other frames.
  void moved(std::uint64_t hva, std::uint64_t pages, Time now);
  // When the page's frame last changed (drop, moved); 0 = never.
  Time frame_since(std::uint64_t hva) const {
    const Page* page = directory_[index_of(hva)];
    return page == nullptr ? (sweeps_.empty() ? 0 : sweep_time(hva)) : page->frame_since;
  }

  // The newest version of a word, or nullptr; older ones by `previous`.
  const Version* newest(std::uint64_t hva) const;
  const Version* older(const Version& version) const {
    return version.previous == 0 ? nullptr : &versions_[version.previous];
  }

 private:
  struct Page {
    std::uint64_t lines = 0;    // which 64-byte lines are in `words`
    std::uint32_t index = 0;    // its place in the directory
    std::uint32_t history = 0;  // 1 + index into histories_, 0 = none
    Time frame_since = 0;
    bool zeroed = false;
    std::uint64_t words[512];
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
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };

  static std::size_t index_of(std::uint64_t hva) { return (hva - kHvaBase) / kPageBytes; }
  Page& touch(std::uint64_t hva);
  std::uint64_t untouched_word(std::uint64_t hva) const;
  Time sweep_time(std::uint64_t hva) const;
  void sweep(std::uint64_t hva, std::uint64_t pages, Time now, bool zeroes);
  void drop_page(Page& page, Time now);
  std::uint64_t& word(Page& page, std::uint64_t hva);
  void record(Page& page, std::uint64_t hva, std::uint64_t before, std::uint64_t after, Time now,
              Hand hand, std::uint64_t through);

  std::unique_ptr<Page*[], Free>
      directory_;  // one a hva page; zero pages of the kernel until touched
  std::vector<std::unique_ptr<Page>> pages_;
  std::vector<std::unique_ptr<History>> histories_;
  std::vector<Sweep> sweeps_;
  std::vector<Version> versions_;  // [0] is unused
  std::size_t used_pages_ = 0, used_histories_ = 0;
};

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_IMAGE_H_
