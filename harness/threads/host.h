#ifndef TWINWALK_HARNESS_THREADS_HOST_H_
#define TWINWALK_HARNESS_THREADS_HOST_H_

// The host of a core whose vCPUs are threads: locks that block, flushes that wait for other
// processors, memory whose frames go while others run.

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>

#include "harness/core/core_host.h"
#include "harness/core/core_vm.h"
#include "harness/core/steps.h"
#include "harness/core_subject_tdp.h"
#include "harness/processor/private_module.h"
#include "harness/threads/dirty_watch.h"
#include "harness/threads/grace.h"
#include "harness/threads/guest_mode.h"
#include "harness/threads/memory.h"
#include "harness/threads/sections.h"

namespace twinwalk {

class ThreadedHost final : public CoreHost {
 public:
  // Called with the reason of a panic, in the thread that panicked, before the process ends.
  using OnPanic = void (*)(const char* why);

  explicit ThreadedHost(OnPanic on_panic);
  ~ThreadedHost() = default;

  void reset(const Machine& machine);
  // Nobody runs.
  void no_vcpu_runs() {
    for (Vcpu& v : vcpu_) v.tdp.drop_all();
  }
  void finish_readers();

  // The calling thread is context `number` from now on: a vCPU by its index, or another. `steps`
  // carries out what this thread does.
  void adopt_thread(unsigned number, CoreVm& core, CoreSteps& steps, std::uint64_t seed);
  // The calling thread begins a step.
  void begin_step();
  void end_step() { steps_done_.fetch_add(1, std::memory_order_relaxed); }

  ThreadedMemory& memory() { return memory_; }
  DirtyWatch& dirty() { return dirty_; }
  // With all that a module still has, but for the root, which is its own.
  std::uint64_t live_tables() const {
    return memory_.live_tables() + module_.held() - (module_.pointer() != 0 ? 1 : 0);
  }
  std::uint64_t live_objects() const { return live_objects_; }
  const char* complaint() const { return complaint_ ? complaint_.load() : memory_.complaint(); }

  // CoreHost
  SkipReason why_not(const Op& op) const override;
  Attempt attempt(const Op& op, const mmu::EntryState& entry, Outcome& out) override;
  void finish_access(const Op&, Outcome&) override {}
  void executed(const Op& op, const Registers& before) override;
  bool backs(std::uint64_t hva, std::uint64_t pages) const override {
    return pages <= ThreadedMemory::kHvaBytes / mmu::kPageSize &&
           ThreadedMemory::backs(hva, pages * mmu::kPageSize);
  }
  bool is_protected(std::uint64_t hva) const override { return memory_.is_protected(hva); }
  void break_cow(std::uint64_t hva) override { memory_.break_cow(hva); }
  bool poke(std::uint64_t hva, unsigned size, std::uint64_t value) override {
    memory_.poke(hva, size, value);  // else by whoever comes after
    return true;
  }
  void invalidate(std::uint64_t hva, std::uint64_t pages) override { memory_.move(hva, pages); }
  void remap(std::uint64_t hva, std::uint64_t pages) override { memory_.move(hva, pages); }
  void protect(std::uint64_t hva, std::uint64_t pages, bool writable) override {
    memory_.protect(hva, pages, writable);
  }
  void huge_split(std::uint64_t hva) override { memory_.huge_split(hva); }
  void huge_collapse(std::uint64_t hva) override { memory_.huge_collapse(hva); }
  // Of the range, its first page comes later.
  void swap_out(std::uint64_t hva, std::uint64_t) override { swapped_ = hva; }
  bool let_others_go_on() override;

  // mmu::Platform
  bool alloc_table(mmu::TableReach reach, mmu::Hpa& hpa, mmu::u64*& ptr) override;
  void free_table(mmu::Hpa hpa) override { memory_.free_table(hpa.raw); }
  void set_descriptor(mmu::Hpa table, void* descriptor) override {
    memory_.set_descriptor(table.raw, descriptor);
  }
  void* descriptor_of(mmu::Hpa table) const override { return memory_.descriptor_of(table.raw); }
  void* alloc_object(mmu::u64 size) override;
  void free_object(void* object, mmu::u64 size) override;
  void begin_using_slots() override { users_of_slots_.begin(context()); }
  void end_using_slots() override { users_of_slots_.end(context()); }
  void wait_for_users_of_slots() override { users_of_slots_.wait(context()); }
  mmu::FrameLookup::Kind read_hva(mmu::Hva hva, unsigned size, mmu::u64& value) override;
  mmu::FrameLookup::Kind write_hva(mmu::Hva hva, unsigned size, mmu::u64 value) override;
  mmu::FrameLookup::Kind cmpxchg_hva(mmu::Hva hva, unsigned size, mmu::u64 expected,
                                     mmu::u64 desired, bool& done) override;
  void begin_reading() override { grace_.begin(context()); }
  void end_reading() override { grace_.end(context()); }
  void free_table_after_readers(mmu::Hpa hpa) override;
  void free_object_after_readers(void* object, mmu::u64 size) override;
  mmu::u64 read_guest(mmu::Hpa hpa, unsigned size) override { return memory_.load(hpa.raw, size); }
  void write_guest(mmu::Hpa hpa, unsigned size, mmu::u64 value) override {
    memory_.store(hpa.raw, size, value);
  }
  bool cmpxchg_guest(mmu::Hpa hpa, unsigned size, mmu::u64 expected, mmu::u64 desired) override {
    return memory_.compare_exchange(hpa.raw, size, expected, desired);
  }
  mmu::FrameLookup lookup_frame(mmu::Hva hva, bool write) override;
  mmu::FrameLookup lookup_frame_or_later(mmu::Hva hva, bool write, mmu::u64 token) override;
  void flush_tlb(const mmu::FlushRequest& request) override;
  void call_out_of_guest() override;
  bool link_external_table(mmu::Gfn gfn, mmu::u8 level, mmu::Hpa table) override;
  bool set_external_leaf(mmu::Gfn gfn, mmu::Pfn pfn) override;
  void remove_external_leaf(mmu::Gfn gfn, mmu::Pfn pfn) override;
  void free_external_table(mmu::Gfn gfn, mmu::u8 level, mmu::Hpa table) override;
  mmu::u32 context() const override { return self_.context; }
  void lock(mmu::LockId id) override;
  void unlock(mmu::LockId id) override;
  void lock_shared(mmu::LockId) override { mmu_lock_.lock_shared(); }
  void unlock_shared(mmu::LockId) override { mmu_lock_.unlock_shared(); }
  void yield(mmu::YieldPoint point, mmu::u32 vcpu) override;
  [[noreturn]] void panic(const char* why) override;

 private:
  // What a processor sees of the memory.
  class Physical final : public CorePhysical {
   public:
    explicit Physical(ThreadedMemory& memory) : memory_(memory) {}
    bool holds(std::uint64_t) const override { return true; }
    std::uint64_t load(std::uint64_t hpa, unsigned size) override {
      return memory_.load(hpa, size);
    }
    void store(std::uint64_t hpa, unsigned size, std::uint64_t value) override {
      memory_.store(hpa, size, value);
    }
    bool compare_exchange(std::uint64_t hpa, unsigned size, std::uint64_t expected,
                          std::uint64_t desired) override {
      return memory_.compare_exchange(hpa, size, expected, desired);
    }
    std::uint64_t load_nested(std::uint64_t hpa) override;
    bool update_nested(std::uint64_t hpa, std::uint64_t expected, std::uint64_t desired) override;
    std::uint64_t look(std::uint64_t, unsigned) override { return 0; }
    std::uint64_t look_nested(std::uint64_t) override { return 0; }
    std::uint64_t* log_page(std::uint64_t hpa) override { return memory_.table_entry(hpa); }

   private:
    ThreadedMemory& memory_;
  };
  struct Vcpu {
    explicit Vcpu(ThreadedMemory& memory) : physical(memory), tdp(physical) {}
    Physical physical;
    CoreTdp tdp;
    GuestMode mode;
  };
  struct Thread {  // of the one that runs
    unsigned context = 0;
    CoreVm* core = nullptr;
    CoreSteps* steps = nullptr;
    unsigned tries = 0;           // of this step, while nobody else got anywhere
    std::uint64_t elsewhere = 0;  // what others had done at the last
    std::uint64_t random = 1;
  };

  void complain(const char* what);
  template <class F>
  void have_module(F&& work);
  void give_back(const Grace::Freed& freed);
  void flush_posted(unsigned vcpu);
  bool handle_exit(const Op& op, const processor::NestedExit& exit, Outcome& out);

  static thread_local Thread self_;

  const OnPanic on_panic_;
  ThreadedMemory memory_;
  DirtyWatch dirty_;
  Vcpu vcpu_[kMaxVcpus] = {Vcpu(memory_), Vcpu(memory_), Vcpu(memory_), Vcpu(memory_)};
  Physical of_module_{memory_};
  processor::PrivateModule module_{of_module_};
  std::mutex module_lock_;
  Machine machine_;
  std::mutex slots_lock_;
  std::shared_mutex mmu_lock_;
  Grace grace_;
  Sections users_of_slots_;
  std::atomic<std::uint64_t> steps_done_ = 0;
  std::atomic<std::uint64_t> live_objects_ = 0;
  std::atomic<std::uint64_t> swapped_ = 0;  // hva of a page; 0: none
  std::atomic<const char*> complaint_ = nullptr;
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_THREADS_HOST_H_
