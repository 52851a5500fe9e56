// Two dimensions: the guest runs on the trace's own tables.

#include <algorithm>
#include <cstring>

#include "harness/core/access_shape.h"
#include "harness/core/ept_exit.h"
#include "kvm_runner/backing.h"
#include "kvm_runner/vmx_image/core_vmx_subject.h"
#include "kvm_runner/vmx_image/runner_pages.h"
#include "kvm_runner/vmx_image/vmx/instructions.h"

namespace twinwalk::vmx {
namespace {

// Behind all that a trace can ask for.
constexpr std::uint64_t kRunnerHva = kHvaBase + kvm::Backing::kSpan;
constexpr std::uint64_t kRunnerBytes = runner_page::kCount * kvm::kPage;
constexpr std::uint32_t kRunnerSlot = kMaxSlots;  // the ids of a trace are below
constexpr unsigned kMostExits = 64;               // of one instruction: its pages, each in turn

// Bits that are the hypervisor's: the guest reads its own, and writing another value exits.
constexpr std::uint64_t kHostCr0 = cr0::kCd | cr0::kNw | cr0::kNe;
constexpr std::uint64_t kNotWithUnrestricted = cr0::kPe | cr0::kPg;

bool is_4_level(const Registers& r) { return mode_of(r.cr0, r.cr4, r.efer) == Mode::k4Level; }

}  // namespace

SkipReason CoreVmxSubject::prepare_ept(const Machine& machine) {
  const Capabilities& c = processor_.capabilities();
  if (!c.has_ept() || machine.vendor != Vendor::kIntel) return SkipReason::kHostLacksFeature;
  // Private memory is TDX's; the identity map's place is the runner's.
  if (shared_bit(machine) != 0 || has_identity_map(machine)) return SkipReason::kHostLacksFeature;
  machine_.host_levels = 4;
  machine_.tdp &= c.tdp();
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
  if (op.verb == Verb::kAccess)
    return is_4_level(registers_of(op)) ? SkipReason::kNone : SkipReason::kModeNotSupported;
  // What names gpas where the runner's memslot is.
  const std::uint64_t bytes = std::max(op.pages * kvm::kPage, op.size);
  const bool moves = op.verb == Verb::kSlotMove && op.slot < kMaxSlots;
  const std::uint64_t moved = moves ? slots_[op.space][op.slot].bytes : 0;
  if (op.gives(Field::kGpa) && kvm::overlaps_harness(op.gpa, std::max(bytes, moved)))
    return SkipReason::kHostLacksFeature;
  return SkipReason::kNone;
}

// ---- the runner's entry in the guest's own root

bool CoreVmxSubject::hva_of(unsigned space, std::uint64_t gpa, std::uint64_t& hva) const {
  const SlotView* const slot = slots_[space].find(gpa);
  if (slot != nullptr) hva = slot->hva_of(gpa);
  return slot != nullptr;
}

// The word of memory where the runner's entry has to be for that CR3; null if there is none.
std::uint64_t* CoreVmxSubject::planting_place(unsigned space, std::uint64_t cr3) {
  std::uint64_t hva = 0;
  if (!hva_of(space, (cr3 & pte::kAddressMask) + kvm::kRootEntryOffset, hva)) return nullptr;
  const std::uint64_t hpa = arena_.frame_of(hva - kHvaBase);
  if (hpa == 0) return nullptr;
  return reinterpret_cast<std::uint64_t*>(arena_.frame_at(hpa) + hva % kvm::kPage);
}

bool CoreVmxSubject::PlantedView::is_trace_word(std::uint64_t gpa) const {
  std::uint64_t hva = 0;
  return !subject_.hva_of(space_, gpa, hva) || hva != planted_;
}

// Where the runner would be seen, and where the guest's tables mean something else to this
// processor than to the trace's.
bool CoreVmxSubject::is_beyond(const Op& op, const mmu::EntryState&) const {
  if (machine_.core != Dimension::kEpt) return false;
  const Registers& r = registers_of(op);
  const unsigned space = space_of(op);
  std::uint64_t planted = 0;
  if (!hva_of(space, (r.cr3 & pte::kAddressMask) + kvm::kRootEntryOffset, planted)) return true;
  const PlantedView memory(*this, space, planted);
  const std::uint64_t between =
      bit(processor_.capabilities().maxphyaddr) - bit(machine_now().maxphyaddr);
  const bool fetch = op.access() == AccessKind::kFetch;
  const std::uint64_t size = fetch ? 8 : op.size;
  const std::uint64_t parts[] = {fetch ? op.gva & ~std::uint64_t{7} : op.gva, second_page(op)};
  for (unsigned i = 0; i < (crosses(op) ? 2u : 1u); ++i) {
    if (!kvm::canonical(r, parts[i])) continue;
    const kvm::GuestWalk w = kvm::walk(memory, r, parts[i]);
    if (w.meets_runner || (w.entries_seen & between) != 0) return true;
    if (w.large_1g && machine_now().has(feature::k1G) != has_host(feature::k1G)) return true;
    std::uint64_t hva = 0;
    if (!w.complete) continue;
    if (kvm::overlaps_harness(w.gpa, size)) return true;
    if (hva_of(space, w.gpa, hva) && hva < planted + 8 && planted < hva + size) return true;
  }
  return false;
}

Entry CoreVmxSubject::ept_entry(const Registers& r, const mmu::EntryState& entry) const {
  const Capabilities& c = processor_.capabilities();
  const std::uint64_t cr0_must = c.cr0_must & ~kNotWithUnrestricted;
  Entry e;
  e.cr0 = (r.cr0 & ~kHostCr0) | cr0::kNe | cr0_must;
  e.cr3 = r.cr3;
  e.cr4 = r.cr4 | c.cr4_must;
  e.efer = r.efer;
  e.cr0_mask = kHostCr0 | cr0_must;
  e.cr4_mask = c.cr4_must;
  e.cr0_read = r.cr0;
  e.cr4_read = r.cr4;
  e.eptp = entry.tdp_pointer;
  e.mbec = (machine_.tdp & tdp::kMbec) != 0;
  e.pdptes_valid = entry.pdptes_valid;
  std::copy(entry.pdpte, entry.pdpte + 4, e.pdpte);
  e.pml = entry.pml.raw;
  if (has_host(feature::kPku) && (r.cr4 & cr4::kPke) != 0) write_pkru(r.pkru);
  return e;
}

// The frames' own words change for as long as the stub runs; nobody else looks at them meanwhile.
kvm::StubExit CoreVmxSubject::run_below(const Op& op, const mmu::EntryState& entry,
                                        const kvm::StubCall& call) {
  if (machine_.core != Dimension::kEpt) return CoreHardware::run_below(op, entry, call);
  std::uint64_t* const place = planting_place(space_of(op), registers_of(op).cr3);
  if (place == nullptr) panic("no root to plant the runner's entry in");
  const std::uint64_t original = *place;
  *place = runner_root_entry(kRunnerGpa);
  kvm::StubExit exit = run_in_guest(op, entry, call);
  *place = original;
  return exit;
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
      call.rsi = runner_linear(runner_page::kDescriptor);
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
  if (!is_4_level(before) || !is_4_level(after)) return false;
  std::uint64_t* const from = planting_place(space_of(op), before.cr3);
  std::uint64_t* const to = planting_place(space_of(op), after.cr3);
  if (from == nullptr || to == nullptr) return false;
  for (unsigned n = 0; n < kMostExits; ++n) {
    const mmu::EntryState entry = vcpu_of(op).enter();
    if (!entry.ok) return false;
    Entry e = ept_entry(before, entry);
    e.rip = linear_of(call.stub, 0);
    e.registers.rdi = call.rdi;
    e.registers.rsi = call.rsi;
    const std::uint64_t here = *from, there = *to;
    *from = *to = runner_root_entry(kRunnerGpa);
    const Exit exit = processor_.run(op.vcpu, e);
    *to = there;
    *from = here;
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
