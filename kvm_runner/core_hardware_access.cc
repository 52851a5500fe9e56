// Accesses: the processor tries, the core answers its faults.

#include "harness/core/access_shape.h"
#include "harness/core/ept_exit.h"
#include "harness/trace/content.h"
#include "kvm_runner/core_hardware.h"
#include "kvm_runner/layout.h"

namespace twinwalk::kvm {
namespace {

Stub stub_of(const Op& op) {
  switch (op.access()) {
    case AccessKind::kWrite:
      return sized(Stub::kStore8, op.size);
    case AccessKind::kRmw:
      return sized(Stub::kRmw8, op.size);
    case AccessKind::kFetch:
      return Stub::kFetch;
    default:
      return sized(Stub::kLoad8, op.size);
  }
}

}  // namespace

// A check that the core leaves to the processor decides about the access, and the host's has not
// got it.
bool CoreHardware::lacks_check(const Op& op, const mmu::EntryState& entry) const {
  const bool supervisor = registers_of(op).cpl == 0, fetch = op.access() == AccessKind::kFetch;
  if (entry.levels == 5 && !has_host(feature::kLa57)) return true;
  if (entry.smep && supervisor && fetch && !has_host(feature::kSmep)) return true;
  if (entry.smap && supervisor && !fetch && !has_host(feature::kSmap)) return true;
  return entry.pke && !fetch && !has_host(feature::kPku);
}

// The runner's own linear space, and what is not to be asked of this processor.
bool CoreHardware::is_out_of_reach(const Op& op, const mmu::EntryState& entry) const {
  const Registers& r = registers_of(op);
  const std::uint64_t first = linear(r, op.gva), last = linear(r, op.gva + op.size - 1);
  // With two dimensions the processor walks the guest's own root.
  const Mode mode = mode_of(r.cr0, r.cr4, r.efer);
  const unsigned levels = !two_dimensions() ? entry.levels : mode == Mode::k5Level ? 5 : 4;
  const std::uint64_t reserved = reserved_linear(levels);
  if (op.implicit != 0 || first >= reserved || last >= reserved) return true;
  // Below a root of five levels the processor takes what is not canonical to a guest with four.
  const auto is_gp_of_guest_alone = [&](std::uint64_t gva) {
    return levels == 5 && !canonical(r, gva) && canonical(gva, 57);
  };
  if (is_gp_of_guest_alone(first) || is_gp_of_guest_alone(last)) return true;
  return is_beyond(op, entry);
}

Attempt CoreHardware::attempt(const Op& op, const mmu::EntryState& entry, Outcome& out) {
  steps().note_core_ran();
  const bool fetch = op.access() == AccessKind::kFetch;
  if (lacks_check(op, entry) || is_out_of_reach(op, entry) ||
      (fetch && !choose_fetch_words(op, entry))) {
    out.kind = OutcomeKind::kSkip;
    out.reason = SkipReason::kHostLacksFeature;
    return Attempt::kOver;
  }
  if (stores(op)) collect_candidates(op, entry);
  return resolve(op, run_stub(op, entry), out);
}

void CoreHardware::finish_access(const Op& op, Outcome& out) {
  const Registers& r = registers_of(op);
  const Memory memory(*this, space_of(op));
  out.path[0] = walk(memory, r, op.gva).path;
  if (crosses(op)) out.path[1] = walk(memory, r, second_page(op)).path;
}

// As the processor walks the guest's tables where it does.
GuestWalk CoreHardware::walk_own(const Op& op, const mmu::EntryState& entry,
                                 std::uint64_t gva) const {
  const Registers& r = registers_of(op);
  if (!canonical(r, gva)) return {};
  const Memory memory(*this, space_of(op));
  return entry.pdptes_valid ? walk_latched(memory, r, entry.pdpte, gva) : walk(memory, r, gva);
}

// Of an address by the core's tables, as the processor will find it if it has nothing older; kNoKey
// if it is no frame of the guest's.
std::uint64_t CoreHardware::translate(const mmu::EntryState& entry, std::uint64_t address) const {
  const std::uint64_t present = two_dimensions() ? ept::kR | ept::kW | ept::kX : pte::kP;
  std::uint64_t table = entry.root.raw;
  for (unsigned level = entry.levels; level >= 1 && arena_.is_table(table); --level) {
    const unsigned shift = 12 + 9 * (level - 1);
    const std::uint64_t spte = arena_.table_at(table)[address >> shift & 511];
    if ((spte & present) == 0) break;
    table = spte & pte::kAddressMask;
    if (level != 1 && (spte & pte::kPs) == 0) continue;
    const std::uint64_t in_page = bit(shift) - 1, hpa = (table & ~in_page) | (address & in_page);
    return arena_.is_guest(hpa, 1) ? hpa : FetchLender::kNoKey;
  }
  return FetchLender::kNoKey;
}

// The hpa of the byte at gva. Remembers it.
std::uint64_t CoreHardware::landing_of(const Op& op, const mmu::EntryState& entry,
                                       std::uint64_t gva) {
  std::uint64_t address = gva;
  if (two_dimensions()) {
    const GuestWalk own = walk_own(op, entry, gva);
    if (!own.complete) return FetchLender::kNoKey;
    address = own.gpa;
  }
  const std::uint64_t hpa = translate(entry, address);
  if (hpa != FetchLender::kNoKey) lender_.remember(gva, hpa & ~(kPage - 1));
  return hpa;
}

std::uint64_t CoreHardware::frame_word(std::uint64_t hpa) {
  return *reinterpret_cast<const std::uint64_t*>(arena_.frame_at(hpa & ~std::uint64_t{7}));
}

// Where a store may land: by today's tables, and where the page led before.
void CoreHardware::collect_candidates(const Op& op, const mmu::EntryState& entry) {
  candidates_.clear();
  const Registers& r = registers_of(op);
  const std::uint64_t parts[] = {linear(r, op.gva), linear(r, second_page(op))};
  for (unsigned i = 0; i < (crosses(op) ? 2u : 1u); ++i) {
    if (!canonical(r, parts[i])) continue;
    landing_of(op, entry, parts[i]);
    lender_.each_landing(parts[i], [&](std::uint64_t hpa) {
      candidates_.push_back({i, hpa, frame_word(hpa)});
    });
  }
}

// A store is seen where the word changed. A frame that is no page's any more has no gpa.
void CoreHardware::note_landings(const Op& op, Outcome& out) {
  for (const Candidate& c : candidates_) {
    std::uint64_t offset = 0;
    if (frame_word(c.hpa) == c.before || out.gpa[c.part] != kUnknownGpa) continue;
    if (!arena_.offset_of(c.hpa, offset)) continue;
    const std::uint64_t hva = kHvaBase + offset, in_map = hva - kIdentityMapHva;
    out.gpa[c.part] = has_identity_map(machine_) && in_map < kPage
                          ? kIdentityMap + in_map
                          : slots_[space_of(op)].only_gpa_of(hva);
  }
}

// Any word can be lent, entries of the guest's as well where the processor walks the core's only.
bool CoreHardware::choose_fetch_words(const Op& op, const mmu::EntryState& entry) {
  const std::uint64_t gva = linear(registers_of(op), op.gva) & ~std::uint64_t{7};
  const Path path = two_dimensions() ? walk_own(op, entry, gva).path : Path{};
  const auto original = [&](std::uint64_t hpa, std::uint64_t& word) {
    word = frame_word(hpa);
    return true;
  };
  return lender_.choose(gva, landing_of(op, entry, gva), path, original);
}

// Outside IA-32e mode an access may run on from 2^32 to 0, which the processor does not in
// 64-bit mode: there the gigabyte that follows is the first one once more.
StubExit CoreHardware::run_below(const Op& op, const mmu::EntryState& entry, const StubCall& call) {
  constexpr unsigned kFirstBeyond4G = 4;
  std::uint64_t* root = arena_.table_at(entry.root.raw);
  const std::uint64_t original = root[kRootIndex];
  std::uint64_t *beyond = nullptr, below = root[0];
  if (is_legacy(registers_of(op)) && (below & pte::kP) != 0) {
    std::uint64_t* table = arena_.table_at(below & pte::kAddressMask);
    if (entry.levels == 5) {
      below = table[0];
      table = (below & pte::kP) != 0 ? arena_.table_at(below & pte::kAddressMask) : nullptr;
    }
    if (table != nullptr) {
      beyond = table + kFirstBeyond4G;
      *beyond = table[0];
    }
  }
  root[kRootIndex] = runner_entry(entry.levels);
  StubExit exit = run_in_guest(op, entry, call);
  root[kRootIndex] = original;
  if (beyond != nullptr) *beyond = 0;
  return exit;
}

StubExit CoreHardware::run_stub(const Op& op, const mmu::EntryState& entry) {
  const Registers& r = registers_of(op);
  const bool is_fetch = op.access() == AccessKind::kFetch;
  const auto put = [&](std::uint64_t hpa, std::uint64_t word) {
    *reinterpret_cast<std::uint64_t*>(arena_.frame_at(hpa)) = word;
  };
  if (is_fetch) lender_.lend(put);
  const std::uint64_t target = linear(r, op.gva);
  const std::uint64_t gva = is_fetch ? target & ~std::uint64_t{7} : target;
  StubExit exit = run_below(op, entry, {stub_of(op), gva, op.value, r.cpl, r.cpl == 0 && r.ac});
  exit.cr2 = linear(r, exit.cr2);
  if (is_fetch) {
    lender_.give_back(put);
    if (exit.vector == kVectorPf && exit.cr2 == gva) exit.cr2 = target;
  }
  return exit;
}

Attempt CoreHardware::stop(Complaint complaint, const char* text, Outcome& out) {
  if (complaint != Complaint::kNone) complaints_.add(complaint, text);
  broken_ = true;
  out.kind = OutcomeKind::kSkip;
  out.reason = SkipReason::kSubjectStopped;
  return Attempt::kOver;
}

Attempt CoreHardware::resolve(const Op& op, const StubExit& exit, Outcome& out) {
  if (exit.device.seen)
    return stop(Complaint::kEscape, "the core's tables lead to memory that is not there", out);
  switch (exit.kind) {
    case StubExit::Kind::kDone:
      finish_native(op, exit, out);
      return Attempt::kOver;
    case StubExit::Kind::kHang:
      return stop(Complaint::kLiveness, "the vCPU does not come back", out);
    case StubExit::Kind::kLeftGuest:  // of a hypervisor in the VM: there is none
    case StubExit::Kind::kBroken:
      return stop(exit.shutdown ? Complaint::kTrap : Complaint::kNone, exit.why.c_str(), out);
    case StubExit::Kind::kException:
      return resolve_exception(op, exit, out);
    case StubExit::Kind::kSecondDimension:
      return resolve_second_dimension(op, exit.nested, out);
  }
  return Attempt::kHopeless;
}

Attempt CoreHardware::resolve_second_dimension(const Op& op, const NestedExit& exit, Outcome& out) {
  if (exit.kind == NestedExit::Kind::kLogFull) return Attempt::kAgain;
  const std::uint64_t shared = shared_bit(machine_);
  const mmu::TdpFault fault = exit.kind == NestedExit::Kind::kViolation
                                  ? fault_of_violation(exit.gpa, exit.qualification, shared)
                                  : fault_of_misconfiguration(exit.gpa, shared);
  if (!is_canonical(op)) return resolve_not_canonical(op, fault, out);
  if (!steps().answer_tdp_fault(op, fault, out)) return Attempt::kAgain;
  if (out.kind == OutcomeKind::kPageFault) fault_injected(op.vcpu);
  return Attempt::kOver;
}

// All bytes of it.
bool CoreHardware::is_canonical(const Op& op) const {
  const Registers& r = registers_of(op);
  const std::uint64_t last = op.access() == AccessKind::kFetch ? op.gva : op.gva + op.size - 1;
  return canonical(r, op.gva) && canonical(r, last);
}

// What faulted is the fetch of the stub, or the canonical half. An emulator that has to do that
// instruction looks at its addresses first: #GP.
Attempt CoreHardware::resolve_not_canonical(const Op& op, const mmu::TdpFault& fault,
                                            Outcome& out) {
  using Kind = mmu::FaultResult::Kind;
  const Kind kind = steps().handle_tdp_fault(op, fault);
  if (kind != Kind::kEmulate && kind != Kind::kMmio) return Attempt::kAgain;
  out.kind = OutcomeKind::kGp;
  return Attempt::kOver;
}

// With two dimensions a #PF is the guest's own.
Attempt CoreHardware::resolve_exception(const Op& op, const StubExit& exit, Outcome& out) {
  switch (exit.vector) {
    case kVectorPf:
      if (!two_dimensions()) {
        const bool over = steps().answer_fault(op, exit.cr2, error_code_of(op, exit), out);
        return over ? Attempt::kOver : Attempt::kAgain;
      }
      out.kind = OutcomeKind::kPageFault;
      out.error_code = exit.error_code;
      out.cr2 = exit.cr2;
      return Attempt::kOver;
    case kVectorGp:
      out.kind = OutcomeKind::kGp;
      return Attempt::kOver;
    case kVectorSs:
      out.kind = OutcomeKind::kSs;
      return Attempt::kOver;
    case kVectorBp:
      if (op.access() == AccessKind::kFetch) return finish_fetch(op, exit, out);
      break;
    default:
      break;
  }
  return stop(Complaint::kTrap, "an exception that no access has", out);
}

void CoreHardware::finish_native(const Op& op, const StubExit& exit, Outcome& out) {
  out.kind = OutcomeKind::kOk;
  if (op.access() != AccessKind::kWrite)
    out.value = extract(exit.rax, 0, static_cast<unsigned>(op.size));
  if (stores(op)) note_landings(op, out);
}

Attempt CoreHardware::finish_fetch(const Op& op, const StubExit& exit, Outcome& out) {
  const FetchLender::Lent* found = lender_.found(exit.rax);
  if (found == nullptr)
    return stop(Complaint::kEscape, "a fetch found a word that is nowhere near", out);
  out.kind = OutcomeKind::kOk;
  out.value = found->original;
  std::uint64_t offset = 0;
  const GuestWalk fresh = walk_own(op, {}, op.gva);
  const SlotView* slot = fresh.complete ? slots_[space_of(op)].find(fresh.gpa) : nullptr;
  const std::uint64_t today = slot != nullptr ? slot->hva_of(fresh.gpa) - kHvaBase : 0;
  if (slot != nullptr && arena_.offset_of(found->key, offset) &&
      offset == (today & ~std::uint64_t{7})) {
    out.gpa[0] = fresh.gpa;
  }
  return Attempt::kOver;
}

}  // namespace twinwalk::kvm
