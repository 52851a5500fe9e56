#include "mmu_core/testing/guest.h"

#include <gtest/gtest.h>

#include "mmu_core/spte.h"

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
  static constexpr const char* kNames[] = {"ok", "#PF", "mmio", "no memory", "no root", "stuck"};
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
      vm_(Vm::create(storage_.get(), platform, config)) {
  vm_->set_state_counters(counters_.data());
  add_slot(0, Gfn{0}, pages, kMemory);
  root_ = new_table();
  for (u32 i = 0; i < config.vcpus; ++i) EXPECT_TRUE(cpu(i).set_cr3(root_.raw));
}

Guest::~Guest() { vm_->destroy(); }

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
  for (unsigned l = 4; l > level; --l)
    table = Gpa{load(table + index_at(gva, l) * 8) & pte::kAddress};
  return table + index_at(gva, level) * 8;
}

void Guest::map(Gpa root, Gva gva, Gpa gpa, u64 flags, unsigned level, u64 upper) {
  for (unsigned l = 4; l > level; --l) {
    const Gpa at = entry(root, gva, l);
    if (!(load(at) & pte::kP)) host_store(at, new_table().raw | upper);
  }
  host_store(entry(root, gva, level), gpa.raw | flags | (level > 1 ? pte::kPs : 0));
}

Translation Guest::walk(Hpa root, Gva gva) {
  const u64 beyond = bits(host_maxphyaddr_, 51);
  Translation t;
  t.access = acc::kAll;
  t.table = root;
  for (unsigned level = 4;; --level) {
    u64* const table = platform.table_at(t.table);
    if (!table) {
      ADD_FAILURE() << "the path leads to a frame that is no table: 0x" << std::hex << t.table.raw;
      return t;
    }
    t.level = level;
    t.entry = table[index_at(gva, level)];
    if (!(t.entry & pte::kP)) return t;
    if (t.entry & beyond) {
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
    const Translation t = walk(state.root, gva);
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
  return state.ok ? walk(state.root, gva) : Translation{};
}

Outcome Guest::reaches(Gpa gpa) {
  Outcome o;
  o.hpa = frame(gpa).base() + gpa.raw % kPageSize;
  return o;
}

void Guest::add_slot(u32 id, Gfn gfn, u64 pages, Hva hva, bool read_only, bool log_dirty) {
  MemslotRequest r;
  r.id = id;
  r.gfn = gfn;
  r.pages = pages;
  r.hva = hva;
  r.read_only = read_only;
  r.log_dirty = log_dirty;
  EXPECT_EQ(vm_->set_memslot(r), Status::kOk) << "slot " << id;
  audit();
}

Status Guest::slot_request(MemslotRequest::Kind kind, u32 id, Gfn gfn, bool read_only,
                           bool log_dirty) {
  MemslotRequest r;
  r.kind = kind;
  r.id = id;
  r.gfn = gfn;
  r.read_only = read_only;
  r.log_dirty = log_dirty;
  const Status status = vm_->set_memslot(r);
  audit();
  return status;
}

void Guest::audit() {
  FailingSink sink;
  vm_->audit(sink);
}

u64 Guest::events(Event event) const {
  u64 n = 0;
  for (u32 level = 0; level < kCounterLevels; ++level)
    for (u32 c = 0; c < kCounterRoleClasses; ++c) n += counters_[counter_index(event, level, c)];
  return n;
}

}  // namespace mmu::testing
