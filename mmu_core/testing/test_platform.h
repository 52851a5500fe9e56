#ifndef MMU_CORE_TESTING_TEST_PLATFORM_H_
#define MMU_CORE_TESTING_TEST_PLATFORM_H_

// A platform for the core's own tests: sparse host memory, page sources that
// can run dry, and a record of what the core asked for.

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <ostream>
#include <set>
#include <vector>

#include "mmu_core/platform.h"
#include "mmu_core/testing/external_module.h"

namespace mmu::testing {

// Counts down allocations; once at 0 each one fails.
class LimitedPages {
 public:
  static constexpr u64 kUnlimited = ~u64{0};
  explicit LimitedPages(u64 left = kUnlimited) : left_(left) {}
  bool take() {
    if (left_ == 0) return false;
    if (left_ != kUnlimited) --left_;
    return true;
  }

 private:
  u64 left_;
};

// State of one host virtual page, as the host would have it. A page that was never set is backed on
// first touch by a zeroed frame of its own, writable, 4K.
struct HostPage {
  FrameLookup::Kind kind = FrameLookup::Kind::kFrame;
  Pfn pfn;
  bool writable = true;
  u8 host_level = 1;
};

class RecordingPlatform final : public Platform {
 public:
  RecordingPlatform() = default;
  RecordingPlatform(const RecordingPlatform&) = delete;
  ~RecordingPlatform();  // a leak of a table or an object fails the test

  // What the host does.
  HostPage& host_page(Hva hva);        // backed if it was not
  void migrate(Hva hva);               // to another frame, with its content; the old frame is gone
  void back_with(Hva hva, Hva other);  // both share the frame of `other`
  // Backs the whole naturally aligned page of `level` that holds `hva` by one host page, from
  // `first` on. Precondition: `first` is aligned to the level and nothing else uses these frames.
  // Lazy: costs what is touched.
  void back_large(Hva hva, Pfn first, u8 level);
  void send_away(Hva hva);  // the page has to be fetched when it is next looked up
  void bring_back(Hva hva) { away_.erase(Hva{hva.raw & ~(kPageSize - 1)}); }
  u64 load(Hva hva);  // 8-aligned; by way of the host page, nothing recorded
  void store(Hva hva, u64 value);

  LimitedPages table_source;   // of alloc_table
  LimitedPages object_source;  // of alloc_object
  // Runs just before a compare-and-exchange looks at memory, to interfere.
  std::function<void(Hpa)> before_cmpxchg;
  std::function<void(YieldPoint, u32 vcpu)> on_yield;
  std::function<void(u64 size)> before_alloc_object, before_free_object;
  std::function<void(Hva)> after_lookup;
  ExternalModule module;
  u32 running = 0;  // the context that is inside the core: a test that changes it says another runs

  // What the core did.
  std::function<void()> on_call_out_of_guest;
  std::vector<FlushRequest> flushes;
  bool flushed_all() const {  // a flush of everything is among them
    return std::any_of(flushes.begin(), flushes.end(),
                       [](const FlushRequest& f) { return f.kind == FlushRequest::Kind::kAll; });
  }
  struct TrackedWrite {
    u32 space;
    Gpa gpa;
    unsigned size;
    friend bool operator==(const TrackedWrite&, const TrackedWrite&) = default;
    friend void PrintTo(const TrackedWrite& w, std::ostream* out) {
      *out << "space " << w.space << " gpa 0x" << std::hex << w.gpa.raw << std::dec << " size "
           << w.size;
    }
  };
  std::vector<TrackedWrite> tracked_writes;
  struct TrackedSlotGone {
    u32 space;
    Gfn gfn;
    u64 pages;
    friend bool operator==(const TrackedSlotGone&, const TrackedSlotGone&) = default;
  };
  std::vector<TrackedSlotGone> tracked_slots_gone;
  std::vector<u64> tokens;  // of what was answered with "later"
  u64 waits = 0;            // lookups that had to wait for a page
  u64 guest_reads = 0, guest_writes = 0, cmpxchgs = 0;
  std::size_t tables_in_use() const { return tables_.size(); }
  std::size_t objects_in_use() const { return objects_.size(); }
  // By the context that is running, for itself alone.
  bool holds_lock(LockId id) const { return held_[running][static_cast<int>(id)]; }
  bool holds_mmu_lock_shared() const { return shared_[running]; }
  // The table page at `hpa`, as hardware reads it; null if it is not a table now.
  const u64* table_at(Hpa hpa) const;
  u64* table_at(Hpa hpa);  // to set A and D, as hardware does

  bool alloc_table(TableReach reach, Hpa& hpa, u64*& ptr) override;
  void free_table(Hpa hpa) override;
  void set_descriptor(Hpa table, void* descriptor) override;
  void* descriptor_of(Hpa table) const override;
  void* alloc_object(u64 size) override;
  void free_object(void* object, u64 size) override;
  void begin_reading() override;
  void end_reading() override;
  void free_table_after_readers(Hpa hpa) override;
  void free_object_after_readers(void* object, u64 size) override;
  bool link_external_table(Gfn gfn, u8 level, Hpa table) override {
    return module.link(gfn, level, table);
  }
  bool set_external_leaf(Gfn gfn, Pfn pfn) override { return module.set(gfn, pfn); }
  void remove_external_leaf(Gfn gfn, Pfn pfn) override { module.remove(gfn, pfn); }
  void free_external_table(Gfn gfn, u8 level, Hpa table) override {
    module.free(gfn, level, table);
  }
  u64 read_guest(Hpa hpa, unsigned size) override;
  void write_guest(Hpa hpa, unsigned size, u64 value) override;
  bool cmpxchg_guest(Hpa hpa, unsigned size, u64 expected, u64 desired) override;
  FrameLookup lookup_frame(Hva hva, bool write) override;
  FrameLookup lookup_frame_or_later(Hva hva, bool write, u64 token) override;
  void flush_tlb(const FlushRequest& request) override;
  void call_out_of_guest() override {
    if (on_call_out_of_guest) on_call_out_of_guest();
  }
  void on_tracked_write(u32 space, Gpa gpa, unsigned size) override;
  void on_tracked_slot_gone(u32 space, Gfn gfn, u64 pages) override;
  u32 context() const override { return running; }
  void lock(LockId id) override;
  void unlock(LockId id) override;
  void lock_shared(LockId id) override;
  void unlock_shared(LockId id) override;
  void yield(YieldPoint point, u32 vcpu) override;
  [[noreturn]] void panic(const char* why) override;

 private:
  using Page = std::array<u64, kPageSize / sizeof(u64)>;

  std::byte* guest_bytes(Hpa hpa, unsigned size);

  struct LargePage {
    Hva start;
    Pfn first;
    u8 level;
  };

  std::map<Hva, HostPage> host_pages_;
  std::set<Hva> away_;
  std::vector<LargePage> large_pages_;
  std::map<Pfn, std::unique_ptr<Page>> guest_frames_;
  std::map<Pfn, std::unique_ptr<Page>> tables_;
  std::map<Pfn, void*> descriptors_;  // of tables
  std::map<void*, u64> objects_;      // size by address
  bool held_[kMaxContexts][2] = {};
  bool shared_[kMaxContexts] = {};  // of the mmu lock
  bool reading_[kMaxContexts] = {};
  // Freed when no context reads any more: whichever had begun, had begun before.
  std::vector<std::function<void()>> after_readers_;
  // Frame numbers are never used twice: a stale one is always noticed.
  u64 next_guest_ = 0x1000;
  u64 next_table_ = 0x100000;  // pfn of 4 GiB
  u64 next_low_table_ = 0x80000;
};

}  // namespace mmu::testing

#endif  // MMU_CORE_TESTING_TEST_PLATFORM_H_
