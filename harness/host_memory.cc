#include "harness/host_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <new>

#include "harness/poison.h"

namespace twinwalk {
namespace {

constexpr unsigned kBlock = 64;        // 4K frames are handed out block by block
constexpr unsigned kBlockUsable = 56;  // the rest is secret
constexpr std::uint64_t kQuarantineMin = 1024, kQuarantineMax = 2048;
constexpr std::uint64_t kTrimPages =
    4096;  // 16 MiB of arena touched: give it back at the next reset

// The order inside a block: a stride that is prime to its size, secret frames left out.
constexpr std::array<std::uint8_t, kBlockUsable> order_in_block() {
  std::array<std::uint8_t, kBlockUsable> order{};
  unsigned n = 0;
  for (unsigned i = 0; i < kBlock; ++i) {
    const unsigned place = (i * 37 + 11) % kBlock;
    if ((place & 7) != 5) order[n++] = static_cast<std::uint8_t>(place);
  }
  return order;
}
constexpr auto kOrder = order_in_block();

void* reserve(std::uint64_t bytes) {
  void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) throw std::bad_alloc();
  return at;
}

}  // namespace

HostMemory::HostMemory()
    : arena_(static_cast<std::uint8_t*>(reserve(kFrames * kPage))),
      frames_(static_cast<Frame*>(reserve(kFrames * sizeof(Frame)))),
      hva_(static_cast<HvaPage*>(reserve(kHvaPages * sizeof(HvaPage)))),
      regions_(kHvaPages / kRegionPages),
      giants_(kHvaPages / kRegionPages / 512),
      runs_2m_(kRuns2M),
      runs_1g_(kRuns1G),
      quarantine_(kQuarantineMax) {
  static_assert(kFrames < std::uint64_t{1} << 25, "HvaPage::pfn");
  reset(1);
}

HostMemory::~HostMemory() {
  // No others are ever poisoned; the whole arena's shadow would be gigabytes.
  unpoison(bytes(kLowFirst * kPage), kLowFrames * kPage);
  unpoison(bytes(kSmallFirst * kPage), blocks_poisoned_ * kBlock * kPage);
  munmap(arena_, kFrames * kPage);
  munmap(frames_, kFrames * sizeof(Frame));
  munmap(hva_, kHvaPages * sizeof(HvaPage));
}

void HostMemory::reset(unsigned host_page_level) {
  small_high_ = std::max(small_high_, next_small_);
  if (small_high_ + huge_touched_ > kTrimPages || epoch_ == ~std::uint32_t{0}) trim();
  ++epoch_;
  host_page_level_ = host_page_level;
  next_low_ = next_small_ = 0;
  next_2m_ = next_1g_ = 0;
  quarantine_head_ = quarantine_count_ = 0;
  live_tables_ = 0;
  complaint_ = Complaint::kNone;
}

// Back to nothing resident; the cost is spread over the frames that were touched since the last
// time.
void HostMemory::trim() {
  madvise(arena_, kFrames * kPage, MADV_DONTNEED);
  madvise(frames_, kFrames * sizeof(Frame), MADV_DONTNEED);
  madvise(hva_, kHvaPages * sizeof(HvaPage), MADV_DONTNEED);
  std::fill(regions_.begin(), regions_.end(), Region{});
  std::fill(giants_.begin(), giants_.end(), Giant{});
  std::fill(runs_2m_.begin(), runs_2m_.end(), Run{});
  std::fill(runs_1g_.begin(), runs_1g_.end(), Run{});
  epoch_ = 0;
  small_high_ = huge_touched_ = 0;
}

void HostMemory::complain(Complaint what, const char* text, std::uint64_t hpa) {
  if (complaint_ != Complaint::kNone) return;
  complaint_ = what;
  complaint_what_ = text;
  complaint_hpa_ = hpa;
}

Complaint HostMemory::take_complaint() {
  const Complaint taken = complaint_;
  complaint_ = Complaint::kNone;
  return taken;
}

// ---- frames

std::uint64_t HostMemory::take_small_frame() {
  std::uint64_t pfn;
  if (quarantine_count_ >= kQuarantineMin) {
    pfn = quarantine_[quarantine_head_];
    quarantine_head_ = (quarantine_head_ + 1) % kQuarantineMax;
    --quarantine_count_;
  } else {
    const std::uint64_t block = next_small_ / kBlockUsable;
    pfn = kSmallFirst + block * kBlock + kOrder[next_small_ % kBlockUsable];
    if (pfn >= kRun2MFirst) return 0;
    for (; blocks_poisoned_ <= block; ++blocks_poisoned_) {
      for (unsigned i = 5; i < kBlock; i += 8) {
        poison(bytes((kSmallFirst + blocks_poisoned_ * kBlock + i) * kPage), kPage);
      }
    }
    ++next_small_;
  }
  unpoison(bytes(pfn * kPage), kPage);
  return pfn;
}

// Few are asked for: none is handed out twice in a trace.
std::uint64_t HostMemory::take_low_frame() {
  const std::uint64_t pfn = kLowFirst + next_low_;
  if (next_low_ == kLowFrames) return 0;
  ++next_low_;
  unpoison(bytes(pfn * kPage), kPage);
  return pfn;
}

bool HostMemory::reached(std::uint64_t pfn) const {
  if (!readers_) return false;
  // Frames of a run may be reached through a large translation that never named them.
  const Frame& f = frames_[pfn];
  const bool named = f.epoch == epoch_ && (f.flags & kReached);
  return (named || pfn >= kRun2MFirst) && readers_->reaches(pfn, 1);
}

void HostMemory::give_back(std::uint64_t pfn) {
  Frame& f = frames_[pfn];
  if (reached(pfn)) {
    complain(Complaint::kTableFreedInUse,
             f.state == FrameState::kTable
                 ? "a page table is given back while a paging-structure entry still reaches it"
                 : "a frame is given back while a TLB entry still reaches it",
             pfn * kPage);
  }
  f.epoch = epoch_;
  f.state = FrameState::kPoisoned;
  f.flags = 0;
  if (pfn >= kRun2MFirst) return;  // runs are not handed out again in this trace
  poison(bytes(pfn * kPage), kPage);
  if (pfn < kSmallFirst) return;  // nor are low frames
  if (quarantine_count_ == kQuarantineMax) {
    quarantine_head_ = (quarantine_head_ + 1) % kQuarantineMax;
    --quarantine_count_;
  }
  quarantine_[(quarantine_head_ + quarantine_count_++) % kQuarantineMax] =
      static_cast<std::uint32_t>(pfn);
}

FrameState HostMemory::state(std::uint64_t pfn) const {
  if (pfn < kLowFirst || pfn >= kFrames) return FrameState::kFree;
  if (pfn >= kSmallFirst && pfn < kRun2MFirst && is_secret(pfn)) return FrameState::kSecret;
  if (frames_[pfn].epoch == epoch_) return frames_[pfn].state;
  if (pfn < kRun2MFirst) return FrameState::kFree;
  const bool giant = pfn >= kRun1GFirst;
  const std::uint64_t pages = giant ? 512 * 512 : 512, base = giant ? kRun1GFirst : kRun2MFirst;
  const Run& run = (giant ? runs_1g_ : runs_2m_)[(pfn - base) / pages];
  if (run.epoch != epoch_) return FrameState::kFree;
  const std::uint64_t page = run.hva_page + (pfn - base) % pages;
  const HvaPage* e = known(page);
  if (e && (e->unbound || (e->mapped && e->pfn != pfn))) return FrameState::kPoisoned;
  return bound(peek_region(page), page) == pfn ? FrameState::kGuest : FrameState::kPoisoned;
}

HostMemory::Frame* HostMemory::guest_frame_slow(std::uint64_t hpa) {
  const std::uint64_t pfn = hpa / kPage;
  const FrameState now = state(pfn);
  if (now == FrameState::kGuest) {  // an untouched page of a live run
    const bool giant = pfn >= kRun1GFirst;
    const std::uint64_t pages = giant ? 512 * 512 : 512, base = giant ? kRun1GFirst : kRun2MFirst;
    fault_in((giant ? runs_1g_ : runs_2m_)[(pfn - base) / pages].hva_page + (pfn - base) % pages);
    return &frames_[pfn];
  }
  complain(Complaint::kEscape,
           now == FrameState::kTable      ? "guest access to a page table of the core"
           : now == FrameState::kSecret   ? "guest access to a frame of the host"
           : now == FrameState::kPoisoned ? "guest access to a frame that was given back"
                                          : "guest access to a frame that is nobody's",
           hpa);
  return nullptr;
}

std::uint64_t HostMemory::load_slow(std::uint64_t hpa, unsigned size) {
  Frame* frame = guest_frame(hpa);
  if (!frame) return extract(secret_word(hpa), hpa & 7, size);
  need(*frame, hpa, size);
  std::uint64_t value = 0;
  copy_small(&value, bytes(hpa), size);
  return value;
}

void HostMemory::fill(Frame& frame, std::uint64_t pfn, std::uint64_t lines) {
  frame.lines |= lines;
  std::uint8_t* const page = bytes(pfn * kPage);
  const std::uint64_t from = frame.hva_page * kPage;
  for (; lines; lines &= lines - 1) {
    const unsigned line = static_cast<unsigned>(__builtin_ctzll(lines));
    std::uint64_t words[8] = {};
    if (!(frame.flags & kZero)) {
      for (unsigned i = 0; i < 8; ++i) words[i] = seed_word(from + line * 64 + i * 8);
    }
    std::memcpy(page + line * 64, words, 64);
  }
}

bool HostMemory::compare_exchange(std::uint64_t hpa, unsigned size, std::uint64_t expected,
                                  std::uint64_t desired) {
  if (load(hpa, size) != extract(expected, 0, size)) return false;
  store(hpa, size, desired);
  return true;
}

std::uint64_t HostMemory::hva_of(std::uint64_t hpa) const {
  const std::uint64_t pfn = hpa / kPage;
  if (!is_of_guest(pfn)) return 0;
  return kHvaBase + frames_[pfn].hva_page * kPage + hpa % kPage;
}

// ---- page tables

std::uint64_t* HostMemory::alloc_table(std::uint64_t& hpa, bool below_4g) {
  const std::uint64_t pfn = below_4g ? take_low_frame() : take_small_frame();
  if (!pfn) return nullptr;
  Frame& f = frames_[pfn];
  f.epoch = epoch_;
  f.state = FrameState::kTable;
  f.flags = 0;
  f.lines = 0;
  ++live_tables_;
  hpa = pfn * kPage;
  std::memset(bytes(hpa), 0, kPage);
  return reinterpret_cast<std::uint64_t*>(bytes(hpa));
}

void HostMemory::free_table(std::uint64_t hpa) {
  const std::uint64_t pfn = hpa / kPage;
  if (hpa % kPage || state(pfn) != FrameState::kTable) {
    complain(Complaint::kTrap, "free_table of something that is no live page table", hpa);
    return;
  }
  --live_tables_;
  give_back(pfn);
}

void HostMemory::set_descriptor(std::uint64_t hpa, void* descriptor) {
  if (state(hpa / kPage) == FrameState::kTable)
    frames_[hpa / kPage].lines = reinterpret_cast<std::uint64_t>(descriptor);
}

void* HostMemory::descriptor_of(std::uint64_t hpa) const {
  if (state(hpa / kPage) != FrameState::kTable) return nullptr;
  return reinterpret_cast<void*>(frames_[hpa / kPage].lines);
}

std::uint64_t* HostMemory::table_entry(std::uint64_t hpa) {
  const std::uint64_t pfn = hpa / kPage;
  if (pfn < kFrames && frames_[pfn].epoch == epoch_ && frames_[pfn].state == FrameState::kTable) {
    return reinterpret_cast<std::uint64_t*>(bytes(hpa & ~std::uint64_t{7}));
  }
  complain(Complaint::kEscape, "the processor walks into a frame that is no page table", hpa);
  return nullptr;
}

}  // namespace twinwalk
