#ifndef TWINWALK_HARNESS_HOST_MEMORY_H_
#define TWINWALK_HARNESS_HOST_MEMORY_H_

// The host's physical memory: one arena, and which host virtual page sits where.
//
//   hva page ──(hva_, regions)──► pfn ──(frames_)──► state, owner, valid lines
//                                  │
//   hpa:  0 ───── 4G ───────────── 20G ───────── 28G ──────────── 40G
//         nobody's │ 4K frames:     │ runs of 2M  │ runs of 1G
//                  │ guest, table,  │ (huge host  │
//                  │ secret, mixed  │  pages)     │
//
// Nothing lives below 4G, so a gpa, or an offset into the hva space, that is taken for an hpa hits
// a frame that is nobody's. Frames are handed out in an order in which neighbours in time are not
// neighbours in space, with secret ones between them. Everything is sparse: a frame's content is
// produced line by line (64 bytes) as it is touched, and reset() is a new epoch.

#include <cstdint>
#include <cstring>
#include <vector>

#include "harness/trace/content.h"
#include "harness/trace/machine.h"
#include "harness/trace/outcome.h"

namespace twinwalk {

enum class FrameState : std::uint8_t {
  kFree,      // never handed out in this trace
  kGuest,     // backs a host virtual page
  kTable,     // a page table of the core
  kSecret,    // the host's own: no translation may ever reach it
  kPoisoned,  // given back; in quarantine
};

// Who may still reach a frame through cached translations: the processor.
class FrameReaders {
 public:
  // True if any TLB or paging-structure entry reaches one of the frames [pfn, pfn + count).
  virtual bool reaches(std::uint64_t pfn, std::uint64_t count) const = 0;

 protected:
  ~FrameReaders() = default;
};

class HostMemory {
 public:
  static constexpr std::uint64_t kHvaBytes = std::uint64_t{4} << 30;  // of hva space from kHvaBase

  HostMemory();
  ~HostMemory();
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;

  // Nothing is mapped, every hva page holds its seed. Constant cost. `host_page_level`: 1 = 4K, 2 =
  // 2M, 3 = 1G. Precondition: nobody uses a table any more.
  void reset(unsigned host_page_level);
  void set_readers(const FrameReaders* readers) { readers_ = readers; }

  // True if [hva, hva + bytes) lies in the backed hva space.
  static bool backs(std::uint64_t hva, std::uint64_t bytes) {
    return hva >= kHvaBase && bytes <= kHvaBytes && hva - kHvaBase <= kHvaBytes - bytes;
  }

  // ---- by hva: what the host does. Preconditions: backs(); page operations take 4K-aligned
  // addresses.
  struct Lookup {
    bool found = false;      // false: the arena is exhausted
    bool writable = false;   // false: the page is protected; a write needs break_cow() first
    std::uint8_t level = 1;  // size of the naturally aligned host page that holds it
    std::uint64_t pfn = 0;   // of the 4K page
  };
  Lookup lookup(std::uint64_t hva);  // faults the page in
  // Content without faulting anything in. Naturally aligned, size 1..8.
  std::uint64_t peek(std::uint64_t hva, unsigned size) const;
  // The host process stores; breaks no protection. Naturally aligned. Precondition:
  // !is_protected(hva).
  void poke(std::uint64_t hva, unsigned size, std::uint64_t value);
  bool is_protected(std::uint64_t hva) const;

  void invalidate(std::uint64_t hva,
                  std::uint64_t pages);  // frames are dropped; content is zero from now on
  void remap(std::uint64_t hva, std::uint64_t pages);  // content moves to other frames
  void protect(std::uint64_t hva, std::uint64_t pages, bool writable);
  void break_cow(std::uint64_t hva);   // the page moves to a frame of its own, writable
  void huge_split(std::uint64_t hva);  // the 2M page around hva becomes 4K ones, frames stay
  // And back: content moves into one 2M run. Nothing happens where protections differ.
  void huge_collapse(std::uint64_t hva);
  bool is_huge(std::uint64_t hva) const;

  // ---- by hpa: what the processor and the core do. An access to a frame that is not the guest's
  // is an escape: it is recorded, a load gives secret_word(), a store is dropped. Naturally aligned
  // within a page, size 1..8.
  std::uint64_t load(std::uint64_t hpa, unsigned size);
  void store(std::uint64_t hpa, unsigned size, std::uint64_t value);
  bool compare_exchange(std::uint64_t hpa, unsigned size, std::uint64_t expected,
                        std::uint64_t desired);
  // The hva that the frame at `hpa` backs (with the offset in the page), 0 if it is not a guest
  // frame.
  std::uint64_t hva_of(std::uint64_t hpa) const;
  FrameState state(std::uint64_t pfn) const;
  static std::uint64_t secret_word(std::uint64_t hpa) {
    return 0x5EC2'E700'0000'0000u | (hpa & 0xff'ffff'fff8u);
  }

  // ---- page tables
  // A zeroed frame, on demand one below 4 GiB, where nothing else is; null if there is none left.
  std::uint64_t* alloc_table(std::uint64_t& hpa, bool below_4g = false);
  void free_table(std::uint64_t hpa);
  // The entry at `hpa` for the processor's walk; null, and an escape, if the frame is no table.
  std::uint64_t* table_entry(std::uint64_t hpa);
  std::uint64_t live_tables() const { return live_tables_; }
  // What the core keeps with a table; null of a new one, and where none is.
  void set_descriptor(std::uint64_t hpa, void* descriptor);
  void* descriptor_of(std::uint64_t hpa) const;

  // Marks that a cached translation or paging-structure entry now reaches the frame.
  void note_reached(std::uint64_t pfn) { frames_[pfn].flags |= kReached; }

  // First complaint since the last take; kNone if there is none. complaint_what() names it.
  Complaint take_complaint();
  bool complained() const { return complaint_ != Complaint::kNone; }
  const char* complaint_what() const { return complaint_what_; }
  std::uint64_t complaint_hpa() const { return complaint_hpa_; }

 private:
  static constexpr std::uint64_t kPage = 4096, kRegionPages = 512;
  static constexpr std::uint64_t kLowFirst = (std::uint64_t{3} << 30) / kPage, kLowFrames = 4096;
  static constexpr std::uint64_t kSmallFirst = (std::uint64_t{4} << 30) / kPage;
  static constexpr std::uint64_t kRun2MFirst = (std::uint64_t{20} << 30) / kPage;
  static constexpr std::uint64_t kRun1GFirst = (std::uint64_t{28} << 30) / kPage;
  static constexpr std::uint64_t kFrames = (std::uint64_t{40} << 30) / kPage;
  static constexpr std::uint64_t kHvaPages = kHvaBytes / kPage;
  static constexpr unsigned kRuns2M = (kRun1GFirst - kRun2MFirst) / 512;
  static constexpr unsigned kRuns1G = (kFrames - kRun1GFirst) / (512 * 512);
  static constexpr std::uint8_t kReached = 1, kZero = 2, kReadOnly = 4;

  struct Frame {
    std::uint64_t lines;     // bit i: line i holds content; kTable: the descriptor
    std::uint32_t epoch;     // the rest counts only in this epoch
    std::uint32_t hva_page;  // kGuest: whose content it is
    FrameState state;
    std::uint8_t flags;
  };
  enum class Protection : std::uint8_t { kInherit, kReadOnly, kWritable };
  struct HvaPage {  // overrides what the region says
    std::uint32_t epoch;
    std::uint32_t pfn : 25;
    std::uint32_t mapped : 1;
    std::uint32_t unbound : 1;  // the region's run does not hold it (any more)
    std::uint32_t zero : 1;
    std::uint32_t protection : 2;
  };
  struct Region {  // 2M of hva space
    std::uint32_t epoch = 0;
    std::uint32_t run = 0;      // pfn of the 2M run that its pages are bound to; 0: none
    std::uint16_t entries = 0;  // pages with an HvaPage of this epoch
    std::uint8_t level = 1;     // 3: part of a 1G page unless that is split, then 2
    bool zero = false, read_only = false;
  };
  struct Giant {  // 1G of hva space
    std::uint32_t epoch = 0;
    std::uint32_t run = 0;
    bool split = false;
  };
  struct Run {
    std::uint32_t epoch = 0;
    std::uint32_t hva_page = 0;  // of its first frame
  };

  void complain(Complaint what, const char* text, std::uint64_t hpa);
  static bool is_secret(std::uint64_t pfn) { return (pfn & 7) == 5; }
  std::uint8_t* bytes(std::uint64_t hpa) const { return arena_ + hpa; }

  bool is_of_guest(std::uint64_t pfn) const {
    return pfn < kFrames && frames_[pfn].epoch == epoch_ &&
           frames_[pfn].state == FrameState::kGuest;
  }
  Frame* guest_frame(std::uint64_t hpa);  // null and an escape if it is not one
  Frame* guest_frame_slow(std::uint64_t hpa);
  std::uint64_t load_slow(std::uint64_t hpa, unsigned size);
  void fill(Frame& frame, std::uint64_t pfn, std::uint64_t lines);
  // The lines of [hpa, hpa + size), all in one page, that hold nothing yet.
  static std::uint64_t missing_lines(const Frame& frame, std::uint64_t hpa, unsigned size) {
    const auto first = static_cast<unsigned>(hpa & 4095) >> 6;
    const auto last = (static_cast<unsigned>(hpa & 4095) + size - 1) >> 6;
    return ((std::uint64_t{1} << first) | (std::uint64_t{1} << last)) & ~frame.lines;
  }
  void need(Frame& frame, std::uint64_t hpa, unsigned size) {
    if (const std::uint64_t missing = missing_lines(frame, hpa, size)) [[unlikely]]
      fill(frame, hpa / kPage, missing);
  }

  std::uint64_t take_small_frame();  // 0: exhausted
  std::uint64_t take_low_frame();    // 0: exhausted
  void give_back(std::uint64_t pfn);
  bool reached(std::uint64_t pfn) const;

  Region& region(std::uint64_t page);
  Region peek_region(std::uint64_t page) const;
  Giant& giant(std::uint64_t page);
  unsigned level_of(const Region& r, std::uint64_t page) const {
    return r.level < 3 ? r.level : level_of_giant(page);
  }
  unsigned level_of_giant(std::uint64_t page) const;
  Lookup fault_in_and_look(std::uint64_t page);
  std::uint64_t peek_elsewhere(std::uint64_t offset, unsigned size) const;
  std::uint64_t bind(Region& r,
                     std::uint64_t page);  // pfn that the region's run gives the page; 0: none
  std::uint64_t bound(const Region& r, std::uint64_t page) const;
  std::uint32_t take_run_2m(std::uint64_t page);
  void new_run(Region& r, std::uint64_t page);
  HvaPage& entry(Region& r, std::uint64_t page);
  const HvaPage* known(std::uint64_t page) const {
    return hva_[page].epoch == epoch_ ? &hva_[page] : nullptr;
  }
  std::uint64_t fault_in(std::uint64_t page);
  void install(HvaPage& e, std::uint64_t page, std::uint64_t pfn, bool zero, bool read_only);
  // Precondition: `e` is of this epoch; its region then is, too.
  static bool is_read_only(const HvaPage& e, const Region& r) {
    const auto own = static_cast<Protection>(e.protection);
    return own == Protection::kInherit ? r.read_only : own == Protection::kReadOnly;
  }
  bool page_read_only(std::uint64_t page) const;
  bool page_zero(std::uint64_t page) const;
  void split(Region& r, std::uint64_t page);
  void move_page(Region& r, std::uint64_t page, std::uint64_t to);
  void drop_page(Region& r, std::uint64_t page);
  void drop_region(Region& r, std::uint64_t page);
  template <class Part, class Whole>
  void by_region(std::uint64_t hva, std::uint64_t pages, Part part, Whole whole);
  void trim();

  std::uint8_t* arena_ = nullptr;
  Frame* frames_ = nullptr;
  HvaPage* hva_ = nullptr;
  std::vector<Region> regions_;
  std::vector<Giant> giants_;
  std::vector<Run> runs_2m_, runs_1g_;
  std::uint32_t epoch_ = 0;
  unsigned host_page_level_ = 1;
  std::uint64_t next_low_ = 0, next_small_ = 0, small_high_ = 0, huge_touched_ = 0;
  std::uint32_t next_2m_ = 0, next_1g_ = 0;
  std::vector<std::uint32_t> quarantine_;  // ring
  std::uint64_t quarantine_head_ = 0, quarantine_count_ = 0;
  std::uint64_t blocks_poisoned_ = 0;
  std::uint64_t live_tables_ = 0;
  const FrameReaders* readers_ = nullptr;
  Complaint complaint_ = Complaint::kNone;
  const char* complaint_what_ = "";
  std::uint64_t complaint_hpa_ = 0;
};

inline bool HostMemory::page_read_only(std::uint64_t page) const {
  const Region& r = regions_[page / kRegionPages];
  if (const HvaPage* e = known(page)) return is_read_only(*e, r);
  return r.epoch == epoch_ && r.read_only;
}

inline bool HostMemory::is_protected(std::uint64_t hva) const {
  return page_read_only((hva - kHvaBase) / kPage);
}

inline HostMemory::Lookup HostMemory::lookup(std::uint64_t hva) {
  const std::uint64_t page = (hva - kHvaBase) / kPage;
  const HvaPage* e = known(page);
  if (!e || !e->mapped) [[unlikely]]
    return fault_in_and_look(page);
  const Region& r = regions_[page / kRegionPages];
  return {true, !is_read_only(*e, r), static_cast<std::uint8_t>(level_of(r, page)), e->pfn};
}

inline std::uint64_t HostMemory::peek(std::uint64_t hva, unsigned size) const {
  const std::uint64_t offset = hva - kHvaBase, page = offset / kPage;
  const HvaPage* e = known(page);
  if (!e || !e->mapped || !(frames_[e->pfn].lines >> ((offset & 4095) >> 6) & 1))
    return peek_elsewhere(offset, size);
  std::uint64_t word;
  std::memcpy(&word, bytes(e->pfn * kPage + (offset & 4088)), 8);
  return extract(word, offset & 7, size);
}

inline HostMemory::Frame* HostMemory::guest_frame(std::uint64_t hpa) {
  return is_of_guest(hpa / kPage) ? &frames_[hpa / kPage] : guest_frame_slow(hpa);
}

// Copies of 1..8 bytes; the usual sizes without a call.
inline void copy_small(void* to, const void* from, unsigned size) {
  switch (size) {
    case 8:
      std::memcpy(to, from, 8);
      break;
    case 4:
      std::memcpy(to, from, 4);
      break;
    case 2:
      std::memcpy(to, from, 2);
      break;
    case 1:
      std::memcpy(to, from, 1);
      break;
    default:
      std::memcpy(to, from, size);
  }
}

// Whole entries and words that hold content already are most of what is loaded.
inline std::uint64_t HostMemory::load(std::uint64_t hpa, unsigned size) {
  const std::uint64_t pfn = hpa / kPage;
  if (size != 8 || !is_of_guest(pfn) || missing_lines(frames_[pfn], hpa, 8)) [[unlikely]]
    return load_slow(hpa, size);
  std::uint64_t value;
  std::memcpy(&value, bytes(hpa), 8);
  return value;
}

inline void HostMemory::store(std::uint64_t hpa, unsigned size, std::uint64_t value) {
  Frame* frame = guest_frame(hpa);
  if (!frame) return;
  if (frame->flags & kReadOnly) [[unlikely]] {
    complain(Complaint::kEscape, "store to a frame that the host has write-protected", hpa);
    return;
  }
  need(*frame, hpa, size);
  copy_small(bytes(hpa), &value, size);
}

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_HOST_MEMORY_H_
