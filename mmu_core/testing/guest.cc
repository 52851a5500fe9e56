#include "mmu_core/testing/guest.h"

#include <gtest/gtest.h>

#include <new>

#include "mmu_core/spte.h"
#include "mmu_core/state.h"

namespace mmu::testing {
namespace {

constexpr unsigned kMostFaults = 16;

unsigned index_at(Gva gva, unsigned level) {
  return static_cast<unsigned>(gva.raw >> (12 + 9 * (level - 1))) & 511;
}

class FailingSink final : public AuditSink {
 public:
  void on_finding(const AuditFinding& f) override {
    ADD_FAILURE() << "audit: " << f.what << " (gfn 0x" << std::hex << f.gfn.raw << ", entry "
                  << std::dec << f.index << " = 0x" << std::hex << f.spte << ")";
  }
};

}  // namespace

std::ostream& operator<<(std::ostream& out, const Outcome& o) {
  static constexpr const char* kNames[] = {"ok",      "#PF",   "mmio",  "no memory",
                                           "no root", "stuck", "later", "poisoned"};
  out << kNames[static_cast<int>(o.kind)] << std::hex;
  if (o.kind == Outcome::Kind::kOk)
    out << " hpa=0x" << o.hpa.raw << (o.emulated ? " emulated" : "");
  if (o.kind == Outcome::Kind::kFault) out << " ec=0x" << o.error_code;
  if (o.kind == Outcome::Kind::kMmio) out << " gpa=0x" << o.gpa.raw;
  return out << std::dec << " after " << o.faults << " faults";
}

Outcome page_fault(u32 error_code) {
  Outcome o;
  o.kind = Outcome::Kind::kFault;
  o.error_code = error_code;
  return o;
}

Outcome mmio(Gpa gpa) {
  Outcome o;
  o.kind = Outcome::Kind::kMmio;
  o.gpa = gpa;
  return o;
}

Guest::Guest(const VmConfig& config, u64 pages)
    : storage_(new std::byte[Vm::object_size()]()),
      host_maxphyaddr_(config.caps.host_maxphyaddr),
      vcpus_(config.vcpus),
      vm_(Vm::create(storage_.get(), platform, config)) {
  vm_->set_state_counters(counters_.data());
  add_slot(0, Gfn{0}, pages, kMemory);
  root_ = new_table();
  for (u32 i = 0; i < config.vcpus; ++i) EXPECT_TRUE(cpu(i).set_cr3(root_.raw));
}

Guest::Guest(const PagingMode& mode, const VmConfig& config) : Guest(config) {
  for (u32 i = 0; i < vcpus_; ++i) enter_mode(mode, i);
}

Sregs Guest::sregs(const PagingMode& mode) const {
  Sregs s;
  s.cr0 = cr0::kPe | cr0::kEt | cr0::kNe | cr0::kWp;
  if (mode.kind == Paging::kNone) return s;
  s.cr0 |= cr0::kPg;
  s.efer = efer::kNxe;
  s.cr4 = mode.kind == Paging::k32Bit ? cr4::kPse : cr4::kPae;
  if (!mode.legacy()) s.efer |= efer::kLme | efer::kLma;
  if (mode.kind == Paging::k5Level) s.cr4 |= cr4::kLa57;
  return s;
}

void Guest::enter_mode(const PagingMode& mode, Gpa root, u32 vcpu) {
  mode_ = &mode;
  Sregs s = sregs(mode);
  s.cr3 = root.raw;
  EXPECT_TRUE(cpu(vcpu).set_sregs(s));
  audit();
}

u64 Guest::load_entry(Gpa gpa) {
  const u64 both = load(Gpa{gpa.raw & ~u64{7}});
  if (mode_->entry_bytes == 8) return both;
  return gpa.raw & 4 ? both >> 32 : both & 0xffff'ffff;
}

void Guest::store_entry(Gpa gpa, u64 value) {
  if (mode_->entry_bytes == 8) return host_store(gpa, value);
  const unsigned shift = gpa.raw & 4 ? 32 : 0;
  const Gpa both{gpa.raw & ~u64{7}};
  host_store(both, (load(both) & ~(u64{0xffff'ffff} << shift)) | value << shift);
}

Guest::~Guest() { vm_->destroy(); }

VmState& Guest::state() {
  // It ends the storage of a VM (Vm::object_size).
  std::byte* const at = storage_.get() + Vm::object_size() - sizeof(VmState);
  return *std::launder(reinterpret_cast<VmState*>(at));
}

void Guest::set_cpl(u8 cpl, u32 vcpu) {
  regs_[vcpu].cpl = cpl;
  cpu(vcpu).set_cpl(cpl);
}

void Guest::set_pkru(u32 pkru, u32 vcpu) {
  regs_[vcpu].pkru = pkru;
  cpu(vcpu).set_pkru(pkru);
}

void Guest::set_ac(bool ac, u32 vcpu) {
  regs_[vcpu].ac = ac;
  cpu(vcpu).set_ac(ac);
}

Gpa Guest::entry(Gpa root, Gva gva, unsigned level) {
  Gpa table = root;
  for (unsigned l = mode_->levels;; --l) {
    const Gpa at = table + index_of(*mode_, l, gva) * mode_->entry_bytes;
    if (l == level) return at;
    table = Gpa{load_entry(at) & pte::kAddress};
  }
}

void Guest::map(Gpa root, Gva gva, Gpa gpa, u64 flags, unsigned level, u64 upper) {
  bool latch = false;
  for (unsigned l = mode_->levels; l > level; --l) {
    const Gpa at = entry(root, gva, l);
    if (load_entry(at) & pte::kP) continue;
    const bool pdpte = mode_->kind == Paging::kPae && l == 3;
    latch |= pdpte;
    store_entry(at, new_table().raw | (pdpte ? pte::kP : upper));
  }
  // PSE-36: bits 39:32 of a 4M page are in 20:13 of its entry.
  const u64 address = mode_->kind == Paging::k32Bit && level == 2
                          ? (gpa.raw & ~bits(32, 39)) | gpa.raw >> 32 << 13
                          : gpa.raw;
  store_entry(entry(root, gva, level), address | flags | (level > 1 ? pte::kPs : 0));
  for (u32 i = 0; latch && i < vcpus_; ++i)
    if ((cpu(i).cr3() & cr3::kTablePae) == root.raw) EXPECT_TRUE(cpu(i).set_cr3(cpu(i).cr3()));
}

Translation Guest::walk(const EntryState& state, Gva gva) {
  const u64 beyond = bits(host_maxphyaddr_, 51);
  gva = linear_address(*mode_, gva);
  Translation t;
  t.access = acc::kAll;
  t.table = state.root;
  unsigned level = state.levels;
  if (level == 3) {  // a PAE table: four PDPTEs, loaded as registers
    const u64* const array = platform.table_at(Hpa{state.root.raw & ~(kPageSize - 1)});
    if (!array) {
      ADD_FAILURE() << "the PDPTEs are in a frame that is no table";
      return t;
    }
    const u64 pdpte = array[state.root.raw % kPageSize / 8 + (gva.raw >> 30 & 3)];
    EXPECT_LT(gva.raw, u64{1} << 32);
    t.level = level--;
    t.entry = pdpte;
    if (!(pdpte & pte::kP)) return t;
    EXPECT_EQ(pdpte & (bits(1, 2) | bits(5, 8) | bits(host_maxphyaddr_, 63)), 0u)
        << "the processor refuses this PDPTE";
    t.table = Hpa{pdpte & pte::kAddress};
  }
  for (;; --level) {
    u64* const table = platform.table_at(t.table);
    if (!table) {
      ADD_FAILURE() << "the path leads to a frame that is no table: 0x" << std::hex << t.table.raw;
      return t;
    }
    t.level = level;
    t.entry = table[index_at(gva, level)];
    if (!(t.entry & pte::kP)) return t;
    if (t.entry & (state.levels == 3 ? beyond | bits(52, 62) : beyond)) {
      t.reserved = true;
      return t;
    }
    if (!(t.entry & pte::kW)) t.access = static_cast<u8>(t.access & ~acc::kW);
    if (!(t.entry & pte::kU)) t.access = static_cast<u8>(t.access & ~acc::kU);
    if (t.entry & pte::kXd) t.access = static_cast<u8>(t.access & ~acc::kX);
    const u64 address = t.entry & pte::kAddress;
    if (level == 1 || (t.entry & pte::kPs)) {
      const u64 inside = (gva.raw >> 12) & (pages_of_level(level) - 1);
      t.pfn = Pfn{((address >> 12) & ~(pages_of_level(level) - 1)) + inside};
      t.present = true;
      return t;
    }
    t.table = Hpa{address};
  }
}

std::optional<u32> Guest::hardware_fault(const Translation& t, const EntryState& state,
                                         const Registers& regs, Access access) {
  const bool write = access == Access::kWrite || access == Access::kRmw;
  const bool fetch = access == Access::kFetch;
  const bool user = regs.cpl == 3;
  const u32 asked = (write ? pfec::kW : 0) | (fetch ? pfec::kI : 0) | (user ? pfec::kU : 0);
  if (t.reserved) return asked | pfec::kP | pfec::kRsvd;
  if (!t.present) return asked;
  const bool key_counts = state.pke && t.user() && !fetch;
  const u32 key = key_counts ? regs.pkru >> (2 * pte::Pkey::get(t.entry)) : 0;
  if ((key & 1) || (write && (key & 2))) return asked | pfec::kP | pfec::kPk;
  bool denied = (write && !t.writable()) || (fetch && !t.executable());
  if (user) denied |= !t.user();
  if (!user && t.user()) denied |= fetch ? state.smep : state.smap && !regs.ac;
  if (!denied) return std::nullopt;
  return asked | pfec::kP;
}

Outcome Guest::finish(const Translation& t, Gva gva, Access access, u64 value, unsigned size) {
  u64& leaf = platform.table_at(t.table)[index_at(gva, t.level)];
  leaf |= pte::kA;
  Outcome o;
  o.hpa = t.pfn.base() + gva.raw % kPageSize;
  if (access != Access::kWrite) o.value = platform.read_guest(o.hpa, size);
  if (access == Access::kWrite) platform.write_guest(o.hpa, size, value);
  if (access == Access::kRmw) platform.write_guest(o.hpa, size, o.value + value);
  if (access == Access::kWrite || access == Access::kRmw) leaf |= pte::kD;
  return o;
}

Outcome Guest::emulate(Gva gva, Access access, u64 value, u32 vcpu, unsigned size) {
  const EmulateResult r = cpu(vcpu).emulate(gva, access, size, value, false);
  Outcome o;
  switch (r.kind) {
    case EmulateResult::Kind::kDone:
      o = reaches(r.gpa);
      o.value = r.value;
      break;
    case EmulateResult::Kind::kInject:
      o = page_fault(r.error_code);
      break;
    case EmulateResult::Kind::kMmio:
      o = mmio(r.gpa);
      break;
    case EmulateResult::Kind::kRetry:  // as one: nothing interrupts a test that asks for an outcome
    case EmulateResult::Kind::kPoisoned:
      o.kind = Outcome::Kind::kPoisoned;
      return o;
    case EmulateResult::Kind::kNoMemory:
      o.kind = Outcome::Kind::kNoMemory;
      break;
  }
  o.emulated = true;
  return o;
}

Outcome Guest::attempt(Gva gva, Access access, u64 value, u32 vcpu, unsigned size) {
  Outcome o;
  unsigned faults = 0;
  for (; faults <= kMostFaults; ++faults) {
    const EntryState state = cpu(vcpu).enter();
    if (!state.ok) {
      o.kind = Outcome::Kind::kNoRoot;
      return o;
    }
    const Translation t = walk(state, gva);
    const std::optional<u32> code = hardware_fault(t, state, regs_[vcpu], access);
    if (!code) {
      o = finish(t, gva, access, value, size);
      break;
    }
    const FaultResult r = cpu(vcpu).handle_fault(gva, *code, false);
    audit();
    if (r.kind == FaultResult::Kind::kRetry) continue;
    if (r.kind == FaultResult::Kind::kInject) o = page_fault(r.error_code);
    if (r.kind == FaultResult::Kind::kEmulate) o = emulate(gva, access, value, vcpu, size);
    if (r.kind == FaultResult::Kind::kMmio) o = mmio(r.gpa);
    if (r.kind == FaultResult::Kind::kNoMemory) o.kind = Outcome::Kind::kNoMemory;
    if (r.kind == FaultResult::Kind::kLater) o.kind = Outcome::Kind::kLater;
    if (r.kind == FaultResult::Kind::kPoisoned) o.kind = Outcome::Kind::kPoisoned;
    ++faults;
    break;
  }
  if (faults > kMostFaults) o.kind = Outcome::Kind::kStuck;
  o.faults = faults;
  return o;
}

Outcome Guest::access(Gva gva, Access access, u64 value, u32 vcpu, unsigned size) {
  const Outcome o = attempt(gva, access, value, vcpu, size);
  audit();
  return o;
}

void Guest::write_physical(Gpa gpa, u64 value, unsigned size, u32 vcpu) {
  EXPECT_EQ(cpu(vcpu).write_physical(gpa, size, value).kind, EmulateResult::Kind::kDone);
  audit();
}

Translation Guest::translation(Gva gva, u32 vcpu) {
  const EntryState state = cpu(vcpu).enter();
  audit();
  return state.ok ? walk(state, gva) : Translation{};
}

Outcome Guest::reaches(Hva hva) {
  Outcome o;
  o.hpa = platform.host_page(hva).pfn.base() + hva.raw % kPageSize;
  return o;
}

void Guest::migrate(Hva page) {
  vm_->notifier_begin(page, page + kPageSize);
  audit();
  platform.migrate(page);
  vm_->notifier_end(page, page + kPageSize);
  audit();
}

Status Guest::set_memslot(const MemslotRequest& request) {
  const Status status = vm_->set_memslot(request);
  audit();
  return status;
}

void Guest::add_slot(u32 id, Gfn gfn, u64 pages, Hva hva, bool read_only, bool log_dirty) {
  MemslotRequest r;
  r.id = id;
  r.gfn = gfn;
  r.pages = pages;
  r.hva = hva;
  r.read_only = read_only;
  r.log_dirty = log_dirty;
  EXPECT_EQ(set_memslot(r), Status::kOk) << "slot " << id;
}

Status Guest::slot_request(MemslotRequest::Kind kind, u32 id, Gfn gfn, bool read_only,
                           bool log_dirty) {
  MemslotRequest r;
  r.kind = kind;
  r.id = id;
  r.gfn = gfn;
  r.read_only = read_only;
  r.log_dirty = log_dirty;
  return set_memslot(r);
}

void Guest::audit() {
  FailingSink sink;
  const u64 reads = platform.guest_reads;
  vm_->audit(sink);
  platform.guest_reads = reads;  // what it looks at is not the core's doing
}

u64 Guest::events(Event event) const {
  u64 n = 0;
  for (u32 level = 0; level < kCounterLevels; ++level)
    for (u32 c = 0; c < kCounterRoleClasses; ++c) n += counters_[counter_index(event, level, c)];
  return n;
}

}  // namespace mmu::testing
