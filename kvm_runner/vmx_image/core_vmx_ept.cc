// Two dimensions: the guest runs on the trace's own tables.

#include <algorithm>
#include <cstring>

#include "harness/core/access_shape.h"
#include "harness/core/ept_exit.h"
#include "kvm_runner/backing.h"
#include "kvm_runner/guest_memory.h"
#include "kvm_runner/vmx_image/core_vmx_subject.h"
#include "kvm_runner/vmx_image/runner_pages.h"
#include "kvm_runner/vmx_image/vmx/instructions.h"

namespace twinwalk::vmx {
namespace {

// Behind all that a trace can ask for.
constexpr std::uint64_t kRunnerHva = kHvaBase + kvm::Backing::kSpan;
constexpr std::uint64_t kRunnerBytes = runner_page::kCount * kvm::kPage;
// Those of a trace, and of the identity map, are below.
constexpr std::uint32_t kRunnerSlot = mmu::kMaxMemslots - 1;
static_assert(kRunnerSlot > kMaxSlots);
constexpr unsigned kMostExits = 64;  // of one instruction: its pages, each in turn

// Bits that are the hypervisor's: the guest reads its own, and writing another value exits.
constexpr std::uint64_t kHostCr0 = cr0::kCd | cr0::kNw | cr0::kNe;
constexpr std::uint64_t kNotWithUnrestricted = cr0::kPe | cr0::kPg;

Mode mode_of(const Registers& r) { return twinwalk::mode_of(r.cr0, r.cr4, r.efer); }
bool is_long(const Registers& r) { return !kvm::is_legacy(r); }

}  // namespace

SkipReason CoreVmxSubject::prepare_ept(const Machine& machine) {
  const Capabilities& c = processor_.capabilities();
  if (!c.has_ept() || machine.vendor != Vendor::kIntel) return SkipReason::kHostLacksFeature;
  if (shared_bit(machine) != 0) return SkipReason::kHostLacksFeature;  // private memory is TDX's
  machine_.host_levels = 4;
  machine_.tdp &= c.tdp() | tdp::kUnrestricted;  // who has it not has the identity map instead
  arena_.keep_small(kRunnerHva - kHvaBase);      // their memslot is far from 2M
  for (unsigned n = 0; n < runner_page::kCount; ++n) {
    std::uint64_t* const words = runner_word(n);
    if (words == nullptr) return SkipReason::kHostLacksFeature;
    std::memset(words, 0, kvm::kPage);
    build_runner_page(n, kRunnerGpa, words);
  }
  return SkipReason::kNone;
}

// The first word of the runner's page; null if no frame is left.
std::uint64_t* CoreVmxSubject::runner_word(unsigned page) {
  const std::uint64_t hpa = arena_.frame_of(kRunnerHva - kHvaBase + page * kvm::kPage);
  return hpa == 0 ? nullptr : reinterpret_cast<std::uint64_t*>(arena_.frame_at(hpa));
}

// One more memslot, which no step of a trace names.
void CoreVmxSubject::started(mmu::Vm& vm) {
  if (machine_.core != Dimension::kEpt) return;
  mmu::MemslotRequest request;
  request.id = kRunnerSlot;
  request.gfn = mmu::Gfn{kRunnerGpa / kvm::kPage};
  request.pages = runner_page::kCount;
  request.hva = mmu::Hva{kRunnerHva};
  for (request.space = 0; request.space < mmu::kAddressSpaces; ++request.space)
    if (vm.set_memslot(request) != mmu::Status::kOk) panic("the runner's own memslot was refused");
}

mmu::FrameLookup CoreVmxSubject::lookup_frame(mmu::Hva hva, bool write) {
  if (hva.raw - kRunnerHva >= kRunnerBytes) return CoreHardware::lookup_frame(hva, write);
  mmu::FrameLookup found;
  found.kind = mmu::FrameLookup::Kind::kFrame;
  found.pfn = mmu::Pfn{arena_.frame_of(hva.raw - kHvaBase) / kvm::kPage};
  found.writable = true;
  return found;
}

SkipReason CoreVmxSubject::why_not(const Op& op) const {
  const SkipReason reason = CoreHardware::why_not(op);
  if (reason != SkipReason::kNone || machine_.core != Dimension::kEpt) return reason;
  // What names gpas where the runner's memslot is.
  const std::uint64_t bytes = std::max(op.pages * kvm::kPage, op.size);
  const bool moves = op.verb == Verb::kSlotMove && op.slot < kMaxSlots;
  const std::uint64_t moved = moves ? slots_[op.space][op.slot].bytes : 0;
  if (op.gives(Field::kGpa) && overlaps_runner(op.gpa, std::max(bytes, moved)))
    return SkipReason::kHostLacksFeature;
  return SkipReason::kNone;
}

// ---- the runner's entry in the guest's own tables

bool CoreVmxSubject::hva_of(unsigned space, std::uint64_t gpa, std::uint64_t& hva) const {
  const SlotView* const slot = slots_[space].find(gpa);
  if (slot != nullptr) hva = slot->hva_of(gpa);
  return slot != nullptr;
}

// The 8-aligned word of memory at gpa; null if there is none.
std::uint64_t* CoreVmxSubject::word_at(unsigned space, std::uint64_t gpa) {
  std::uint64_t hva = 0;
  if (!hva_of(space, gpa & ~std::uint64_t{7}, hva)) return nullptr;
  const std::uint64_t hpa = arena_.frame_of(hva - kHvaBase);
  if (hpa == 0) return nullptr;
  return reinterpret_cast<std::uint64_t*>(arena_.frame_at(hpa) + hva % kvm::kPage);
}

// Nobody else looks at the frame while a stub runs.
bool CoreVmxSubject::plant(unsigned space, const RunnerEntry& entry, Planting& planting) {
  if (entry.where != RunnerEntry::Where::kMemory) return true;
  planting.word = word_at(space, entry.gpa);
  if (planting.word == nullptr) return false;
  const unsigned shift = 8 * (entry.gpa & 7);
  planting.mask = (entry.bytes == 8 ? ~std::uint64_t{0} : 0xffff'ffff) << shift;
  planting.original = *planting.word & planting.mask;
  *planting.word = (*planting.word & ~planting.mask) | entry.value << shift;
  return true;
}

void CoreVmxSubject::Planting::undo() {
  if (word != nullptr) *word = (*word & ~mask) | original;
}

bool CoreVmxSubject::PlantedView::is_trace_word(std::uint64_t gpa) const {
  std::uint64_t hva = 0;
  return !subject_.hva_of(space_, gpa, hva) || hva != planted_;
}

// Where the runner would be seen, where the guest's tables mean something else to this processor
// than to the trace's, and where an access runs on from 2^32, which is no processor's business.
bool CoreVmxSubject::is_beyond(const Op& op, const mmu::EntryState& entry) const {
  if (machine_.core != Dimension::kEpt) return false;
  const Capabilities& c = processor_.capabilities();
  const Registers& r = registers_of(op);
  const unsigned space = space_of(op);
  if ((entry.guest_cr4 & ~c.cr4_may) != 0) return true;
  const bool unpaged = (entry.guest_cr0 & cr0::kPg) == 0;
  if (unpaged && !c.secondary.has(secondary::kUnrestricted)) return true;
  const RunnerEntry own = runner_entry_of(mode_of(r), r.cr3, entry.pdpte[3]);
  std::uint64_t planted = ~std::uint64_t{0};  // no hva
  if (own.where == RunnerEntry::Where::kMemory &&
      !hva_of(space, own.gpa & ~std::uint64_t{7}, planted))
    return true;
  const PlantedView memory(*this, space, planted);
  const std::uint64_t between = bit(c.maxphyaddr) - bit(machine_now().maxphyaddr);
  const bool fetch = op.access() == AccessKind::kFetch;
  const std::uint64_t size = fetch ? 8 : op.size, first = kvm::linear(r, op.gva);
  if (!is_long(r) && first + size > std::uint64_t{1} << 32) return true;
  const std::uint64_t parts[] = {fetch ? first & ~std::uint64_t{7} : first,
                                 kvm::linear(r, second_page(op))};
  for (unsigned i = 0; i < (crosses(op) ? 2u : 1u); ++i) {
    if (!kvm::canonical(r, parts[i])) continue;
    if (reserves(mode_of(r), parts[i])) return true;
    const kvm::GuestWalk w = entry.pdptes_valid
                                 ? kvm::walk_latched(memory, r, entry.pdpte, parts[i])
                                 : kvm::walk(memory, r, parts[i]);
    if (w.meets_runner || (w.entries_seen & between) != 0) return true;
    if (w.large_1g && machine_now().has(feature::k1G) != has_host(feature::k1G)) return true;
    std::uint64_t hva = 0;
    if (!w.complete) continue;
    if (overlaps_runner(w.gpa, size)) return true;
    if (hva_of(space, w.gpa, hva) && hva < planted + 8 && planted < hva + size) return true;
  }
  return false;
}

Entry CoreVmxSubject::ept_entry(const Registers& r, const mmu::EntryState& entry) const {
  const Capabilities& c = processor_.capabilities();
  const std::uint64_t cr0_must = c.cr0_must & ~kNotWithUnrestricted;
  Entry e;
  e.cr0 = entry.guest_cr0 | cr0_must;
  e.cr3 = entry.guest_cr3;
  e.cr4 = entry.guest_cr4 | c.cr4_must;
  // On the identity map there is paging, and must be no IA-32e mode.
  const bool enters_long = (e.cr0 & cr0::kPg) != 0 && (r.efer & efer::kLma) == 0;
  e.efer = enters_long ? r.efer & ~efer::kLme : r.efer;
  e.cr0_mask = kHostCr0 | cr0_must;
  e.cr4_mask = c.cr4_must;
  e.cr0_read = r.cr0;
  e.cr4_read = r.cr4;
  e.eptp = entry.tdp_pointer;
  e.unrestricted = !has_identity_map(machine_);
  e.mbec = (machine_.tdp & tdp::kMbec) != 0;
  e.pdptes_valid = entry.pdptes_valid;
  std::copy(entry.pdpte, entry.pdpte + 4, e.pdpte);
  const RunnerEntry own = runner_entry_of(mode_of(r), r.cr3, entry.pdpte[3]);
  if (own.where == RunnerEntry::Where::kPdpte) e.pdpte[3] = own.value;
  e.pml = entry.pml.raw;
  if (has_host(feature::kPku) && (r.cr4 & cr4::kPke) != 0) write_pkru(r.pkru);
  return e;
}

// In 32-bit code a value of 64 bits is in two registers.
void CoreVmxSubject::load_call(const Registers& r, const kvm::StubCall& call, Entry& e) {
  const bool long_mode = is_long(r);
  // Outside protected mode there is no other privilege level.
  e.cpl = (r.cr0 & cr0::kPe) != 0 ? call.cpl : 0;
  e.ac = call.ac;
  e.rip = linear_of(call.stub, e.cpl, long_mode);
  e.registers.rdi = call.rdi;
  e.registers.rsi = call.rsi;
  if (long_mode) return;
  e.registers.rsi = call.rsi & 0xffff'ffff;
  e.registers.rdx = call.rsi >> 32;
}

kvm::StubExit CoreVmxSubject::run_in_tables(const Op& op, const mmu::EntryState& entry,
                                            const kvm::StubCall& call) {
  const Registers& r = registers_of(op);
  Entry e = ept_entry(r, entry);
  load_call(r, call, e);
  const Exit exit = processor_.run(op.vcpu, e);
  if (e.pml != 0) steps().flush_pml(op, exit.pml_index);
  kvm::StubExit out = stub_exit_of(exit);
  if (!is_long(r)) out.rax = (out.rax & 0xffff'ffff) | exit.registers.rdx << 32;
  return out;
}

kvm::StubExit CoreVmxSubject::run_below(const Op& op, const mmu::EntryState& entry,
                                        const kvm::StubCall& call) {
  if (machine_.core != Dimension::kEpt) return CoreHardware::run_below(op, entry, call);
  const Registers& r = registers_of(op);
  Planting planting;
  if (!plant(space_of(op), runner_entry_of(mode_of(r), r.cr3, entry.pdpte[3]), planting))
    panic("no place to plant the runner's entry in");
  kvm::StubExit exit = run_in_tables(op, entry, call);
  planting.undo();
  return exit;
}

// The host does not let go of the identity map, whatever the guest has stored there.
void CoreVmxSubject::finish_access(const Op& op, Outcome& out) {
  CoreHardware::finish_access(op, out);
  if (has_identity_map(machine_) && stores(op)) steps().restore_identity_map();
}

// ---- instructions that do not exit

// The register write or invalidation that the core has followed, by the guest itself. False: it is
// the hypervisor that has to do what the processor would.
bool CoreVmxSubject::execute_in_guest(const Op& op, const Registers& before) {
  kvm::StubCall call;
  call.rdi = op.value;
  switch (op.verb) {
    case Verb::kInvlpg:
      call.stub = kvm::Stub::kInvlpg;
      call.rdi = op.gva;
      break;
    case Verb::kInvpcid: {
      call.stub = kvm::Stub::kInvpcid;
      call.rdi = op.type;
      call.rsi = runner_linear(runner_page::kDescriptor, is_long(before));
      std::uint64_t* const descriptor = runner_word(runner_page::kDescriptor);
      descriptor[0] = op.pcid;
      descriptor[1] = op.gva;
      break;
    }
    case Verb::kMov:
      call.stub = op.reg() == Reg::kCr0   ? kvm::Stub::kWriteCr0
                  : op.reg() == Reg::kCr3 ? kvm::Stub::kWriteCr3
                                          : kvm::Stub::kWriteCr4;
      break;
    default:
      return false;
  }
  const Registers& after = registers_of(op);
  const Mode mode = mode_of(before);
  // The PDPTE registers come from memory with such a write, and the runner's with them.
  const bool loads_pdptes = mode == Mode::kPae && op.verb == Verb::kMov;
  if (mode != mode_of(after) || loads_pdptes || (before.cr0 & cr0::kPe) == 0) return false;
  for (unsigned n = 0; n < kMostExits; ++n) {
    const mmu::EntryState entry = vcpu_of(op).enter();
    if (!entry.ok) return false;
    Entry e = ept_entry(before, entry);
    if (((before.cr4 | after.cr4) & ~processor_.capabilities().cr4_may) != 0) return false;
    e.cr0 = (before.cr0 & ~kHostCr0) | (e.cr0 & e.cr0_mask & ~(cr0::kCd | cr0::kNw));
    e.cr3 = before.cr3;
    e.cr4 = before.cr4 | (e.cr4 & e.cr4_mask);
    load_call(before, call, e);
    Planting from, to;
    const unsigned space = space_of(op);
    const bool planted = plant(space, runner_entry_of(mode, before.cr3, entry.pdpte[3]), from) &&
                         plant(space, runner_entry_of(mode, after.cr3, entry.pdpte[3]), to);
    Exit exit;
    if (planted) exit = processor_.run(op.vcpu, e);
    to.undo();
    from.undo();
    if (!planted) return false;
    if (e.pml != 0) steps().flush_pml(op, exit.pml_index);
    const kvm::StubExit ended = stub_exit_of(exit);
    if (ended.kind == kvm::StubExit::Kind::kDone) return true;
    if (ended.kind != kvm::StubExit::Kind::kSecondDimension) return false;
    if (ended.nested.kind == kvm::NestedExit::Kind::kLogFull) continue;
    const mmu::TdpFault fault =
        ended.nested.kind == kvm::NestedExit::Kind::kViolation
            ? fault_of_violation(ended.nested.gpa, ended.nested.qualification, 0)
            : fault_of_misconfiguration(ended.nested.gpa, 0);
    if (steps().handle_tdp_fault(op, fault) != mmu::FaultResult::Kind::kRetry) return false;
  }
  return false;
}

void CoreVmxSubject::executed(const Op& op, const Registers& before) {
  if (machine_.core != Dimension::kEpt) return;
  const bool moves = op.verb == Verb::kMov;
  // Loaded at the next entry, and no write of theirs invalidates anything.
  if (moves && op.reg() != Reg::kCr0 && op.reg() != Reg::kCr3 && op.reg() != Reg::kCr4) return;
  if (op.verb == Verb::kCpuid) return;
  if (!execute_in_guest(op, before)) processor_.flush_vcpu(op.vcpu);
}

}  // namespace twinwalk::vmx
