#include "mmu_core/testing/tdp_guest.h"

#include <new>

namespace mmu::testing {
namespace {

constexpr unsigned kMostFaults = 16;

class FailingSink final : public AuditSink {
 public:
  void on_finding(const AuditFinding& f) override {
    ADD_FAILURE() << "audit: " << f.what << " (gfn 0x" << std::hex << f.gfn.raw << ", entry "
                  << std::dec << f.index << " = 0x" << std::hex << f.spte << ")";
  }
};

unsigned index_of(Gpa gpa, unsigned level) {
  return static_cast<unsigned>(gpa.raw >> (12 + 9 * (level - 1))) & 511;
}

bool is_write(Access a) { return a == Access::kWrite || a == Access::kRmw; }

}  // namespace

VmConfig TdpMachine::config() const {
  VmConfig c;
  c.translation = translation;
  c.host_levels = levels;
  c.tdp.ad = ad;
  c.tdp.mbec = mbec;
  c.tdp.pml = pml;
  c.caps.vendor = ept() ? Vendor::kIntel : Vendor::kAmd;
  return c;
}

std::ostream& operator<<(std::ostream& out, const TdpOutcome& o) {
  static constexpr const char* kNames[] = {"ok",           "mmio",      "emulate",
                                           "memory fault", "no memory", "no root",
                                           "stuck",        "later",     "poisoned"};
  return out << kNames[static_cast<int>(o.kind)] << std::hex << " hpa=0x" << o.hpa.raw << std::dec
             << " after " << o.faults << " faults";
}

TdpOutcome ended(TdpOutcome::Kind kind) {
  TdpOutcome o;
  o.kind = kind;
  return o;
}

TdpGuest::TdpGuest(const TdpMachine& machine, const VmConfig& config, u64 pages)
    : machine_(machine),
      storage_(new std::byte[Vm::object_size()]()),
      host_maxphyaddr_(config.caps.host_maxphyaddr),
      shared_bit_(config.shared_bit),
      external_(config.external_private),
      vm_(Vm::create(storage_.get(), platform, config)) {
  platform.module.root_level = machine.levels;
  vm_->set_state_counters(counters_.data());
  EXPECT_EQ(set(slot(0, Gfn{0}, pages, kTdpMemory)), Status::kOk);
}

TdpGuest::~TdpGuest() { vm_->destroy(); }

VmState& TdpGuest::state() {
  std::byte* const at = storage_.get() + Vm::object_size() - sizeof(VmState);
  return *std::launder(reinterpret_cast<VmState*>(at));
}

// SDM 3C "EPT Translation Mechanism", "EPT Misconfigurations"; APM 2 "Nested Paging".
TdpWalk TdpGuest::walk(const EntryState& state, Gpa gpa) {
  if (is_private(gpa) && external_) return walk_of_module(state, gpa);
  const bool ept = machine_.ept();
  TdpWalk w;
  w.read = w.write = w.exec = true;
  const u64 pointer = is_private(gpa) ? state.private_pointer : state.tdp_pointer;
  Hpa table{pointer & (bits(12, 51) | (ept ? 0 : bits(0, 11)))};
  if (!is_private(gpa)) EXPECT_EQ(state.root, table);
  if (ept) {
    EXPECT_EQ(pointer & 7, 6u) << "memory type of the paging structures";
    EXPECT_EQ((pointer >> 3 & 7) + 1, machine_.levels) << "length of the walk";
    EXPECT_EQ((pointer >> 6 & 1) != 0, machine_.ad);
  }
  if (!ept && machine_.levels == 3) EXPECT_LT(table.raw, u64{1} << 32);
  for (unsigned level = machine_.levels;; --level) {
    u64* const entries = platform.table_at(table);
    if (!entries) {
      ADD_FAILURE() << "the path leads to a frame that is no table: 0x" << std::hex << table.raw;
      return w;
    }
    w.level = level;
    w.table = table;
    w.index = index_of(gpa, level);
    const u64 e = w.entry = entries[w.index];
    const bool large = level > 1 && (e & bit(7));
    const u64 low = large ? bits(12, 12 + 9 * (level - 1) - 1) : 0;
    const bool pdpte = !ept && machine_.levels == 3 && level == 3;
    if (ept) {
      const u64 exec = machine_.mbec ? bit(2) | bit(10) : bit(2);
      if (!(e & (3 | exec))) return w;
      const u64 type = e >> 3 & 7;
      w.error = ((e & 2) && !(e & 1)) || (e & bits(host_maxphyaddr_, 51)) ||
                (large && (level > 3 || (e & low))) || (!large && level > 1 && (e & bits(3, 6))) ||
                ((large || level == 1) && (type == 2 || type == 3 || type == 7));
      w.read &= (e & 1) != 0;
      w.write &= (e & 2) != 0;
      w.exec &= (e & exec) == exec;
    } else {
      if (!(e & 1)) return w;
      // PAT is bit 12 of a large entry: the core leaves it 0, as all of `low`.
      w.error = (e & bits(host_maxphyaddr_, machine_.levels == 3 ? 62 : 51)) ||
                (large && (e & low)) || (large && level > (machine_.levels == 3 ? 2 : 3)) ||
                (level > 3 && (e & bit(8))) || (pdpte && (e & (bits(1, 2) | bits(5, 8) | bit(63))));
      if (!pdpte) {
        w.write &= (e & 2) != 0;
        w.exec &= !(e & bit(63));
        w.read &= (e & 4) != 0;  // the nested walk is a user's
      }
    }
    if (w.error) return w;
    const u64 accessed = !ept ? bit(5) : machine_.ad ? bit(8) : 0;
    if (!pdpte) entries[w.index] |= accessed;
    if (level == 1 || large) {
      const u64 inside = (gpa.raw >> 12) & (pages_of_level(level) - 1);
      w.pfn = Pfn{((e & bits(12, 51)) >> 12) + inside};
      w.present = true;
      return w;
    }
    table = Hpa{e & bits(12, 51)};
  }
}

TdpWalk TdpGuest::walk_of_module(const EntryState& state, Gpa gpa) const {
  EXPECT_EQ(state.private_pointer, 0u) << "the hardware walks the module's tables";
  TdpWalk w;
  const Pfn* const page = platform.module.page(Gfn::of(gpa));
  if (!page) return w;
  w.present = w.read = w.write = w.exec = true;
  w.level = 1;
  w.pfn = *page;
  return w;
}

TdpWalk TdpGuest::walk(Gpa gpa, u32 vcpu) {
  const EntryState state = cpu(vcpu).enter();
  audit();
  return state.ok ? walk(state, gpa) : TdpWalk{};
}

bool TdpGuest::faults(const TdpWalk& w, Gpa gpa, Access access, TdpFault& fault) const {
  fault = TdpFault{};
  fault.gpa = gpa;
  fault.is_private = is_private(gpa);
  fault.write = is_write(access);
  fault.fetch = access == Access::kFetch;
  fault.read = access == Access::kRead;
  fault.reserved = w.error;
  fault.present = w.present;
  if (w.error || !w.present) return true;
  return !w.read || (fault.write && !w.write) || (fault.fetch && !w.exec);
}

TdpOutcome TdpGuest::access(Gpa gpa, Access access, u64 value, u32 vcpu, bool table) {
  TdpOutcome o;
  for (o.faults = 0; o.faults <= kMostFaults; ++o.faults) {
    const EntryState state = cpu(vcpu).enter();
    if (!state.ok) {
      o.kind = TdpOutcome::Kind::kNoRoot;
      return o;
    }
    const TdpWalk w = walk(state, gpa);
    TdpFault fault;
    if (!faults(w, gpa, access, fault)) {
      const bool logs = !(external_ && is_private(gpa));
      if (is_write(access) && logs && !set_dirty(state, w, gpa, vcpu)) {
        exit(vcpu);
        continue;
      }
      back(gpa, vcpu);
      o.hpa = w.pfn.base() + gpa.raw % kPageSize;
      if (access != Access::kWrite) o.value = platform.read_guest(o.hpa, 8);
      if (is_write(access)) platform.write_guest(o.hpa, 8, value);
      audit();
      return o;
    }
    fault.table = table;
    exit(vcpu);
    const FaultResult r = cpu(vcpu).handle_tdp_fault(fault);
    audit();
    switch (r.kind) {
      case FaultResult::Kind::kRetry:
        continue;
      case FaultResult::Kind::kMmio:
        o.kind = TdpOutcome::Kind::kMmio;
        break;
      case FaultResult::Kind::kEmulate:
        o.kind = TdpOutcome::Kind::kEmulate;
        break;
      case FaultResult::Kind::kMemoryFault:
        o.kind = TdpOutcome::Kind::kMemoryFault;
        break;
      case FaultResult::Kind::kNoMemory:
        o.kind = TdpOutcome::Kind::kNoMemory;
        break;
      case FaultResult::Kind::kLater:
        o.kind = TdpOutcome::Kind::kLater;
        break;
      case FaultResult::Kind::kPoisoned:
        o.kind = TdpOutcome::Kind::kPoisoned;
        break;
      case FaultResult::Kind::kInject:
        ADD_FAILURE() << "a #PF from the second dimension";
        break;
    }
    ++o.faults;
    return o;
  }
  o.kind = TdpOutcome::Kind::kStuck;
  return o;
}

bool TdpGuest::set_dirty(const EntryState& state, const TdpWalk& w, Gpa gpa, u32 vcpu) {
  const u64 dirty = !machine_.ept() ? bit(6) : machine_.ad ? bit(9) : 0;
  u64& e = entry_at(w);
  if (!(e & dirty) && state.pml != Hpa{}) {
    u16& index = pml_index_[vcpu];
    if (index > 511) return false;
    u64* const log = platform.table_at(state.pml);
    EXPECT_NE(log, nullptr) << "the log is in a frame that is none of the core's";
    if (log) log[index--] = gpa.raw & ~(kPageSize - 1);
  }
  e |= dirty;
  return true;
}

void TdpGuest::exit(u32 vcpu) {
  cpu(vcpu).flush_pml(pml_index_[vcpu]);
  pml_index_[vcpu] = 511;
}

// Host pages that are parts of a large one come into being when they are looked up.
void TdpGuest::back(Gpa gpa, u32 vcpu) {
  const Gfn gfn = Gfn::of(Gpa{gpa.raw & ~shared_bit_});
  const Memslot* const slot = state().spaces[cpu(vcpu).smm() ? 1 : 0].slots.find(gfn);
  if (slot) platform.host_page(slot->hva_of(gfn));
}

TdpOutcome TdpGuest::reaches(Gpa gpa) {
  TdpOutcome o;
  o.hpa = frame(gpa).base() + gpa.raw % kPageSize;
  return o;
}

void TdpGuest::back_large(Gpa gpa, u8 level) {
  next_large_ += u64{2} << 18;
  platform.back_large(kTdpMemory + gpa.raw, Pfn{next_large_}, level);
}

MemslotRequest TdpGuest::slot(u32 id, Gfn gfn, u64 pages, Hva hva) const {
  MemslotRequest r;
  r.id = id;
  r.gfn = gfn;
  r.pages = pages;
  r.hva = hva;
  return r;
}

Status TdpGuest::set(const MemslotRequest& request) {
  const Status s = vm_->set_memslot(request);
  audit();
  return s;
}

Status TdpGuest::remove(u32 id) {
  MemslotRequest r;
  r.kind = MemslotRequest::Kind::kDelete;
  r.id = id;
  return set(r);
}

Status TdpGuest::set_flags(u32 id, bool read_only, bool log_dirty) {
  MemslotRequest r;
  r.kind = MemslotRequest::Kind::kFlags;
  r.id = id;
  r.read_only = read_only;
  r.log_dirty = log_dirty;
  return set(r);
}

std::vector<Gfn> TdpGuest::take_log(u32 id, u64 pages) {
  std::vector<u64> bitmap((pages + 63) / 64);
  EXPECT_TRUE(vm_->get_dirty_log(0, id, bitmap.data(), bitmap.size()));
  audit();
  std::vector<Gfn> dirty;
  for (u64 i = 0; i < pages; ++i)
    if (bitmap[i / 64] >> (i % 64) & 1) dirty.emplace_back(i);
  return dirty;
}

void TdpGuest::invalidate(Gpa gpa, u64 pages) {
  const Hva start = kTdpMemory + gpa.raw;
  vm_->notifier_begin(start, start + pages * kPageSize);
  audit();
  vm_->notifier_end(start, start + pages * kPageSize);
  audit();
}

void TdpGuest::audit() {
  FailingSink sink;
  const u64 reads = platform.guest_reads;
  vm_->audit(sink);
  platform.guest_reads = reads;
}

u64 TdpGuest::events(TdpEvent event) const {
  u64 n = 0;
  for (u32 level = 0; level < kCounterLevels; ++level)
    for (u32 c = 0; c < kTdpClasses; ++c) n += counters_[tdp_counter_index(event, level, c)];
  return n;
}

}  // namespace mmu::testing
