#ifndef TWINWALK_KVM_RUNNER_CORE_ARENA_H_
#define TWINWALK_KVM_RUNNER_CORE_ARENA_H_

// The core's host-physical memory where a processor walks the core's tables: one piece of memory,
// which that processor has at other addresses than this program perhaps.
//
//   hpa  place.hpa .. + frame_bytes   guest frames
//        .. + table_bytes             page tables of the core

#include <array>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "kvm_runner/seed_pages.h"

namespace twinwalk::kvm {

class CoreArena {
 public:
  struct Place {
    unsigned char* memory = nullptr;
    std::uint64_t hpa = 0;  // of its first byte; not 0
    std::uint64_t frame_bytes = 0, table_bytes = 0;
    std::uint64_t bytes() const { return frame_bytes + table_bytes; }
  };

  CoreArena() = default;
  ~CoreArena();
  CoreArena(const CoreArena&) = delete;
  CoreArena& operator=(const CoreArena&) = delete;

  // Before anything else. The memory is the caller's, and may hold anything.
  void use(const Place& place) { place_ = place; }
  const Place& place() const { return place_; }
  // Nothing is allocated and every hva page holds its seed. No VM may be using the memory.
  // `huge_pages`: the host backs its memory by 2M pages as long as it finds them.
  void reset(bool huge_pages);

  // ---- tables and objects
  // A zeroed page; nullptr when exhausted.
  std::uint64_t* alloc_table(std::uint64_t& hpa);
  bool free_table(std::uint64_t hpa);  // false: no live table
  bool is_table(std::uint64_t hpa) const {
    const std::uint64_t number = (hpa - place_.hpa - place_.frame_bytes) / kPageBytes;
    return number < table_live_.size() && table_live_[number];
  }
  // What the core keeps with a table; null where none is.
  void set_descriptor(std::uint64_t hpa, void* descriptor);
  void* descriptor_of(std::uint64_t hpa) const;
  std::uint64_t* table_at(std::uint64_t hpa) const {
    return reinterpret_cast<std::uint64_t*>(place_.memory + (hpa - place_.hpa));
  }
  void* alloc_object(std::uint64_t bytes);
  bool free_object(void* object, std::uint64_t bytes);
  std::uint64_t live_tables() const { return live_tables_; }
  std::uint64_t live_objects() const { return objects_.size(); }

  // ---- guest frames
  // [hpa, hpa + size) lies in one frame that a guest page has now.
  bool is_guest(std::uint64_t hpa, unsigned size) const;
  unsigned char* frame_at(std::uint64_t hpa) const { return place_.memory + (hpa - place_.hpa); }

  // Offsets are positions in hva space, from kHvaBase; a region is 2M of it, aligned. The frame of
  // the page, made at first touch; 0 when exhausted.
  std::uint64_t frame_of(std::uint64_t offset);
  // The same, with what a lookup wants to know of it besides.
  struct Backed {
    std::uint64_t hpa = 0;  // 0: exhausted
    bool shared = false, huge = false;
  };
  Backed backing_of(std::uint64_t offset);
  // Its position in hva space; false if no page has that frame.
  bool offset_of(std::uint64_t hpa, std::uint64_t& offset) const;
  bool is_shared(std::uint64_t offset) const;  // a store must get a frame of its own first
  void share(std::uint64_t offset, bool shared);
  void move_frame(std::uint64_t offset);  // contents go to a new frame, not shared
  void discard(std::uint64_t offset);     // zeroes at the next touch
  // The same of a whole region, which stays or becomes one 2M page if one is free.
  void move_region(std::uint64_t offset);
  void discard_region(std::uint64_t offset);
  // Whether it lies in a 2M page of the host's; its pages then are one run of frames, 2M-aligned.
  bool is_huge(std::uint64_t offset) const;
  // Of a region that was not touched yet: it gets no 2M page at the first touch.
  void keep_small(std::uint64_t offset);
  void huge_split(std::uint64_t offset);     // frames stay
  void huge_collapse(std::uint64_t offset);  // contents move to a 2M page if one is free
  // The 8-aligned word at a position of hva space; makes no frame.
  std::uint64_t word(std::uint64_t offset) const;

 private:
  static constexpr std::uint64_t kPageBytes = 4096, kRegionBytes = std::uint64_t{2} << 20;
  static constexpr std::uint64_t kNoPage = ~std::uint64_t{0};
  struct Page {
    std::uint64_t hpa = 0;  // 0: not touched since the start, or since it was discarded
    bool zero = false, shared = false;
  };
  struct Region {
    bool made = false;  // pages have frames of their own, or of a run
    bool huge = false;  // then: they are one run
    std::array<Page, kRegionBytes / kPageBytes> pages;
  };
  std::uint64_t take_frame();
  std::uint64_t take_run();
  void drop_frame(std::uint64_t hpa);
  Region* find_region(std::uint64_t offset) const;
  static Page& page_of(Region& region, std::uint64_t offset) {
    return region.pages[offset % kRegionBytes / kPageBytes];
  }
  Region& region_at(std::uint64_t offset);
  std::uint64_t frame_of_page(Page& page, std::uint64_t offset);
  Region& make_region(std::uint64_t offset);
  Page& page_at(std::uint64_t offset) { return page_of(make_region(offset), offset); }
  void give_frame(Page& page, std::uint64_t offset, std::uint64_t hpa);
  void move_into_run(Region& region, std::uint64_t offset);
  void fill(const Page& page, std::uint64_t offset, std::uint64_t hpa);

  Place place_;
  bool huge_pages_ = false;
  SeedPages seeds_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Region>> regions_;  // by offset / 2M
  // The one that was asked for last: most lookups are in the same one as those before.
  mutable std::uint64_t last_number_ = kNoPage;
  mutable Region* last_region_ = nullptr;
  std::vector<std::uint64_t> owners_;  // by frame number: offset of its page, kNoPage
  std::vector<std::uint64_t> free_frames_, free_tables_;
  std::vector<bool> table_live_;
  std::vector<void*> descriptors_;  // of tables
  std::uint64_t next_table_ = 0, live_tables_ = 0, frames_used_ = 0;
  std::unordered_map<void*, std::uint64_t> objects_;  // bytes
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_CORE_ARENA_H_
