#include "harness/threads/host.h"

#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>

namespace twinwalk {
namespace {

constexpr std::uint64_t kPage = mmu::kPageSize;
// So often a step is tried, while all the others stand still too, before it counts as never ending.
constexpr unsigned kMostTries = 200000;

static_assert(kMaxVcpus < mmu::kMaxContexts, "host threads are contexts behind the vCPUs");

}  // namespace

thread_local ThreadedHost::Thread ThreadedHost::self_;

ThreadedHost::ThreadedHost(OnPanic on_panic) : on_panic_(on_panic) {}

void ThreadedHost::reset(const Machine& machine) {
  memory_.reset(machine.host_page_level);
  dirty_.reset();
  machine_ = machine;
  module_.remove();
  if (std::uint64_t root = 0; has_module(machine)) {
    memory_.alloc_table(root, false);
    module_.reset(machine, root);
  }
  for (Vcpu& v : vcpu_) {
    v.tdp.reset(machine, module_.pointer());
    v.mode.reset();
  }
  live_objects_ = swapped_ = 0;
  complaint_ = nullptr;
  self_ = Thread{};
}

void ThreadedHost::give_back(const Grace::Freed& freed) {
  if (freed.object == nullptr) return free_table(freed.table);
  free_object(freed.object, freed.size);
}

void ThreadedHost::finish_readers() {
  grace_.finish([this](const Grace::Freed& freed) { give_back(freed); });
}

void ThreadedHost::adopt_thread(unsigned number, CoreVm& core, CoreSteps& steps,
                                std::uint64_t seed) {
  self_ = {number, &core, &steps, 0, 0, seed * 2 + 1};
}

void ThreadedHost::begin_step() { self_.tries = 0; }

void ThreadedHost::complain(const char* what) {
  const char* none = nullptr;
  complaint_.compare_exchange_strong(none, what);
}

// ---- steps

SkipReason ThreadedHost::why_not(const Op& op) const {
  const SkipReason by_none = why_no_core(op, machine_);
  if (by_none != SkipReason::kNone) return by_none;
  switch (op.verb) {
    // The capabilities are every vCPU's at once, as KVM has them fixed before one runs; a host that
    // fails allocations does so for whoever comes first.
    case Verb::kCpuid:
    case Verb::kFailAlloc:
      return SkipReason::kVerbNotSupported;
    default:
      return SkipReason::kNone;
  }
}

Attempt ThreadedHost::attempt(const Op& op, const mmu::EntryState& entry, Outcome& out) {
  using Kind = processor::GuestResult::Kind;
  Vcpu& v = vcpu_[op.vcpu];
  if (!v.mode.enter()) {
    flush_posted(op.vcpu);
    return Attempt::kAgain;  // a request may have come with it
  }
  processor::GuestResult result;
  v.tdp.access(
      self_.core->registers(op.vcpu), op.vcpu, entry,
      {op.gva, static_cast<std::uint8_t>(op.size), op.access(), op.implicit != 0, op.value},
      result);
  const bool stores = op.access() == AccessKind::kWrite || op.access() == AccessKind::kRmw;
  if (result.kind == Kind::kDone && stores && !self_.core->in_smm(op.vcpu)) {
    for (unsigned part = 0; part < result.parts; ++part) dirty_.stored(result.gpa[part] / kPage);
  }
  v.mode.leave();
  switch (result.kind) {
    case Kind::kDone:
      out.kind = OutcomeKind::kOk;
      out.value = result.value;
      return Attempt::kOver;
    case Kind::kGeneralProtection:
      out.kind = OutcomeKind::kGp;
      return Attempt::kOver;
    case Kind::kPageFault:
      out.kind = OutcomeKind::kPageFault;
      return Attempt::kOver;
    case Kind::kNoMemory:
      return Attempt::kHopeless;
    case Kind::kExit:
      break;
  }
  return handle_exit(op, result.exit, out) ? Attempt::kOver : Attempt::kAgain;
}

bool ThreadedHost::handle_exit(const Op& op, const processor::NestedExit& exit, Outcome& out) {
  CoreTdp& tdp = vcpu_[op.vcpu].tdp;
  self_.steps->flush_pml(op, tdp.take_log_index(op.vcpu));
  if (exit.kind == processor::NestedExit::Kind::kPageLogFull) return false;
  if (!self_.steps->answer_tdp_fault(op, tdp.fault_of(exit), out)) return false;
  if (out.kind == OutcomeKind::kPageFault) tdp.inject_fault(op.vcpu);
  return true;
}

void ThreadedHost::executed(const Op& op, const Registers& before) {
  vcpu_[op.vcpu].tdp.executed(op, before, self_.core->registers(op.vcpu));
}

bool ThreadedHost::let_others_go_on() {
  std::this_thread::yield();
  const std::uint64_t now = steps_done_.load(std::memory_order_relaxed) + memory_.pages_changed();
  if (now != std::exchange(self_.elsewhere, now)) self_.tries = 0;
  return ++self_.tries < kMostTries;
}

// ---- mmu::Platform

bool ThreadedHost::alloc_table(mmu::TableReach reach, mmu::Hpa& hpa, mmu::u64*& ptr) {
  std::uint64_t at = 0;
  ptr = memory_.alloc_table(at, reach == mmu::TableReach::kBelow4G);
  hpa = mmu::Hpa{at};
  return ptr != nullptr;
}

// From the heap, where the sanitizers watch what becomes of it.
void* ThreadedHost::alloc_object(mmu::u64 size) {
  void* const object = std::aligned_alloc(16, (size + 15) & ~mmu::u64{15});
  if (object == nullptr) return nullptr;
  std::memset(object, 0xa5, size);
  ++live_objects_;
  return object;
}

void ThreadedHost::free_object(void* object, mmu::u64) {
  --live_objects_;
  std::free(object);
}

void ThreadedHost::free_table_after_readers(mmu::Hpa hpa) {
  grace_.defer({hpa}, [this](const Grace::Freed& freed) { give_back(freed); });
}

void ThreadedHost::free_object_after_readers(void* object, mmu::u64 size) {
  grace_.defer({mmu::Hpa{}, object, size}, [this](const Grace::Freed& freed) { give_back(freed); });
}

mmu::FrameLookup ThreadedHost::lookup_frame(mmu::Hva hva, bool write) {
  mmu::FrameLookup r;
  if (!ThreadedMemory::backs(hva.raw & ~(kPage - 1), kPage)) return r;
  if (write) self_.steps->break_cow(hva.raw);
  const ThreadedMemory::Lookup found = memory_.lookup(hva.raw);
  r.kind = mmu::FrameLookup::Kind::kFrame;
  r.pfn = mmu::Pfn{found.pfn};
  r.writable = found.writable;
  r.host_level = found.level;
  return r;
}

mmu::FrameLookup ThreadedHost::lookup_frame_or_later(mmu::Hva hva, bool write, mmu::u64) {
  std::uint64_t page = hva.raw & ~(kPage - 1);
  if (!swapped_.compare_exchange_strong(page, 0)) return lookup_frame(hva, write);
  mmu::FrameLookup later;
  later.kind = mmu::FrameLookup::Kind::kLater;
  return later;
}

mmu::FrameLookup::Kind ThreadedHost::read_hva(mmu::Hva hva, unsigned size, mmu::u64& value) {
  if (!ThreadedMemory::backs(hva.raw, size)) return mmu::FrameLookup::Kind::kNoFrame;
  value = memory_.peek(hva.raw, size);
  return mmu::FrameLookup::Kind::kFrame;
}

mmu::FrameLookup::Kind ThreadedHost::write_hva(mmu::Hva hva, unsigned size, mmu::u64 value) {
  if (!ThreadedMemory::backs(hva.raw, size)) return mmu::FrameLookup::Kind::kNoFrame;
  do self_.steps->break_cow(hva.raw);  // until nobody protects it in between
  while (!memory_.poke(hva.raw, size, value));
  return mmu::FrameLookup::Kind::kFrame;
}

mmu::FrameLookup::Kind ThreadedHost::cmpxchg_hva(mmu::Hva hva, unsigned size, mmu::u64 expected,
                                                 mmu::u64 desired, bool& done) {
  if (!ThreadedMemory::backs(hva.raw, size)) return mmu::FrameLookup::Kind::kNoFrame;
  do self_.steps->break_cow(hva.raw);
  while (!memory_.exchange(hva.raw, size, expected, desired, done));
  return mmu::FrameLookup::Kind::kFrame;
}

void ThreadedHost::flush_tlb(const mmu::FlushRequest& request) {
  for (unsigned v = 0; v < machine_.vcpus; ++v) {
    if (request.vcpu != mmu::FlushRequest::kAllVcpus && request.vcpu != v) continue;
    mmu::FlushRequest own = request;
    own.vcpu = v;
    if (v == self_.context) {
      vcpu_[v].tdp.flush(own);
    } else {
      vcpu_[v].mode.post(own);
    }
  }
}

void ThreadedHost::call_out_of_guest() {
  for (unsigned v = 0; v < machine_.vcpus; ++v)
    if (v != self_.context) vcpu_[v].mode.call_out();
}

// ---- the module: one at a time. Who fills does not wait for another, but is told to come back
// (TDX_OPERAND_BUSY); who takes away has to be served.

// The calling thread has the module's lock.
template <class F>
void ThreadedHost::have_module(F&& work) {
  work();
  if (const char* const refused = module_.take_complaint()) complain(refused);
}

bool ThreadedHost::link_external_table(mmu::Gfn gfn, mmu::u8 level, mmu::Hpa table) {
  const std::unique_lock lock(module_lock_, std::try_to_lock);
  if (!lock) return false;
  have_module([&] { module_.link(gfn.raw, level, table.raw); });
  return true;
}

bool ThreadedHost::set_external_leaf(mmu::Gfn gfn, mmu::Pfn pfn) {
  const std::unique_lock lock(module_lock_, std::try_to_lock);
  if (!lock) return false;
  have_module([&] { module_.set_leaf(gfn.raw, pfn.raw); });
  return true;
}

void ThreadedHost::remove_external_leaf(mmu::Gfn gfn, mmu::Pfn pfn) {
  {
    const std::lock_guard lock(module_lock_);
    have_module([&] { module_.remove_leaf(gfn.raw, pfn.raw); });
  }
  flush_tlb({});
}

void ThreadedHost::free_external_table(mmu::Gfn gfn, mmu::u8 level, mmu::Hpa table) {
  {
    const std::lock_guard lock(module_lock_);
    have_module([&] { module_.free_table(gfn.raw, level, table.raw); });
  }
  flush_tlb({});
}

void ThreadedHost::flush_posted(unsigned vcpu) {
  for (const mmu::FlushRequest& request : vcpu_[vcpu].mode.take()) vcpu_[vcpu].tdp.flush(request);
}

void ThreadedHost::lock(mmu::LockId id) {
  if (id == mmu::LockId::kSlots) return slots_lock_.lock();
  mmu_lock_.lock();
}

void ThreadedHost::unlock(mmu::LockId id) {
  if (id == mmu::LockId::kSlots) return slots_lock_.unlock();
  mmu_lock_.unlock();
}

// Orders nothing: who goes on here, and who waits, is all that it changes.
void ThreadedHost::yield(mmu::YieldPoint, mmu::u32) {
  std::uint64_t& x = self_.random;
  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  if (x % 64 == 0) {
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  } else if (x % 4 == 0) {
    std::this_thread::yield();
  }
}

void ThreadedHost::panic(const char* why) {
  on_panic_(why);
  std::_Exit(1);
}

std::uint64_t ThreadedHost::Physical::load_nested(std::uint64_t hpa) {
  std::uint64_t* const slot = memory_.table_entry(hpa);
  return slot ? std::atomic_ref(*slot).load() : 0;
}

bool ThreadedHost::Physical::update_nested(std::uint64_t hpa, std::uint64_t expected,
                                           std::uint64_t desired) {
  std::uint64_t* const slot = memory_.table_entry(hpa);
  return slot && std::atomic_ref(*slot).compare_exchange_strong(expected, desired);
}

}  // namespace twinwalk
