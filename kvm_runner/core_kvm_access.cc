// Accesses of subject `core-kvm`: the processor tries, the core answers its faults.

#include "harness/core/access_shape.h"
#include "harness/trace/content.h"
#include "kvm_runner/core_kvm_subject.h"
#include "kvm_runner/layout.h"
#include "kvm_runner/step_limits.h"

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

// The runner's own linear space, and where a KVM that emulates does not do as a processor: a
// page-crossing store of CPL 0 stores its first part before it translates the second, an access
// that crosses the edge of the canonical addresses faults like any other, and entry 256 of the root
// is its own at CPL 3.
bool CoreKvmSubject::is_out_of_reach(const Op& op) const {
  if (op.implicit != 0) return true;
  if (op.gva >= kReservedLinear || op.gva + op.size - 1 >= kReservedLinear) return true;
  if (!host_.emulates_supervisor()) return false;
  const bool supervisor = cpl_of(op, registers_of(op)) == 0;
  if (!supervisor && (op.gva >> 39 & 511) == 256) return true;
  return crosses(op) &&
         ((supervisor && stores(op)) || canonical(op.gva) != canonical(second_page(op)));
}

Attempt CoreKvmSubject::attempt(const Op& op, const mmu::EntryState& entry, Outcome& out) {
  steps().note_core_ran();
  const GuestWalk fresh =
      canonical(op.gva) ? walk(*this, registers_of(op).cr3, op.gva) : GuestWalk{};
  if (op.access() == AccessKind::kFetch && !choose_fetch_words(op, fresh)) {
    out.kind = OutcomeKind::kSkip;
    out.reason = SkipReason::kHostLacksFeature;
    return Attempt::kOver;
  }
  if (stores(op)) collect_candidates(op);
  return resolve(op, run_stub(op, entry), out);
}

void CoreKvmSubject::finish_access(const Op& op, Outcome& out) {
  const std::uint64_t cr3 = registers_of(op).cr3;
  out.path[0] = walk(*this, cr3, op.gva).path;
  if (crosses(op)) out.path[1] = walk(*this, cr3, second_page(op)).path;
}

// The hpa of the byte at gva by the guest's own tables; kNoKey if it is no memory. Remembers it.
std::uint64_t CoreKvmSubject::landing_of(std::uint64_t gva, const GuestWalk& fresh) {
  const SlotView* slot = fresh.complete ? slots_[0].find(fresh.gpa) : nullptr;
  const std::uint64_t frame =
      slot != nullptr ? arena_.frame_of(slot->hva_of(fresh.gpa) - kHvaBase) : 0;
  if (frame == 0) return FetchLender::kNoKey;
  lender_.remember(gva, frame);
  return frame + gva % kPage;
}

std::uint64_t CoreKvmSubject::frame_word(std::uint64_t hpa) {
  return *reinterpret_cast<const std::uint64_t*>(arena_.frame_at(hpa & ~std::uint64_t{7}));
}

// Where a store may land: by today's tables, and where the page led before.
void CoreKvmSubject::collect_candidates(const Op& op) {
  candidates_.clear();
  const std::uint64_t parts[] = {op.gva, second_page(op)};
  for (unsigned i = 0; i < (crosses(op) ? 2u : 1u); ++i) {
    if (!canonical(parts[i])) continue;
    landing_of(parts[i], walk(*this, registers_of(op).cr3, parts[i]));
    lender_.each_landing(parts[i], [&](std::uint64_t hpa) {
      candidates_.push_back({i, hpa, frame_word(hpa)});
    });
  }
}

// A store is seen where the word changed. A frame that is no page's any more has no gpa.
void CoreKvmSubject::note_landings(Outcome& out) {
  for (const Candidate& c : candidates_) {
    std::uint64_t offset = 0;
    if (frame_word(c.hpa) == c.before || out.gpa[c.part] != kUnknownGpa) continue;
    if (arena_.offset_of(c.hpa, offset)) out.gpa[c.part] = slots_[0].only_gpa_of(kHvaBase + offset);
  }
}

bool CoreKvmSubject::choose_fetch_words(const Op& op, const GuestWalk& fresh) {
  const std::uint64_t gva = op.gva & ~std::uint64_t{7};
  const std::uint64_t today = landing_of(gva, fresh);
  return lender_.choose(gva, today, fresh.path, [&](std::uint64_t hpa, std::uint64_t& word) {
    word = *reinterpret_cast<const std::uint64_t*>(arena_.frame_at(hpa));
    return true;
  });
}

// Makes the core's root reachable, with the runner's own entry in it while the vCPU runs: the
// core's audit never sees it.
StubExit CoreKvmSubject::run_stub(const Op& op, const mmu::EntryState& entry) {
  const std::uint8_t cpl = cpl_of(op, registers_of(op));
  const bool is_fetch = op.access() == AccessKind::kFetch;
  // No tags on this processor: another PCID is another address space.
  if (loaded_cr3_[op.vcpu] != 0 && loaded_pcid_[op.vcpu] != entry.pcid) vm_->zap_translations();
  std::uint64_t& planted = arena_.table_at(entry.root.raw)[kRootIndex];
  const std::uint64_t original = planted;
  planted = kRootEntry;
  if (loaded_cr3_[op.vcpu] != entry.root.raw || loaded_pcid_[op.vcpu] != entry.pcid) {
    const bool flushed = loaded_cr3_[op.vcpu] == 0;
    vm_->set_cr3(op.vcpu, entry.root.raw);
    if (flushed) vm_->run(op.vcpu, {Stub::kFlushAll, 0, 0, 0, false});
    loaded_cr3_[op.vcpu] = entry.root.raw;
    loaded_pcid_[op.vcpu] = entry.pcid;
  }
  const auto put = [&](std::uint64_t hpa, std::uint64_t word) {
    *reinterpret_cast<std::uint64_t*>(arena_.frame_at(hpa)) = word;
  };
  if (is_fetch) lender_.lend(put);
  const std::uint64_t gva = is_fetch ? op.gva & ~std::uint64_t{7} : op.gva;
  const bool ac = cpl == 0 && registers_of(op).ac;
  StubExit exit = vm_->run(op.vcpu, {stub_of(op), gva, op.value, cpl, ac});
  if (is_fetch) {
    lender_.give_back(put);
    if (exit.vector == kVectorPf && exit.cr2 == gva) exit.cr2 = op.gva;
  }
  planted = original;
  return exit;
}

Attempt CoreKvmSubject::stop(Complaint complaint, const char* text, Outcome& out) {
  if (complaint != Complaint::kNone) complaints_.add(complaint, text);
  broken_ = true;
  out.kind = OutcomeKind::kSkip;
  out.reason = SkipReason::kSubjectStopped;
  return Attempt::kOver;
}

Attempt CoreKvmSubject::resolve(const Op& op, const StubExit& exit, Outcome& out) {
  if (exit.device.seen)
    return stop(Complaint::kEscape, "a shadow entry leads to memory that is not there", out);
  switch (exit.kind) {
    case StubExit::Kind::kDone:
      finish_native(op, exit, out);
      return Attempt::kOver;
    case StubExit::Kind::kHang:
      return stop(Complaint::kLiveness, "the vCPU does not come back", out);
    case StubExit::Kind::kBroken:
      return stop(exit.shutdown ? Complaint::kTrap : Complaint::kNone, exit.why.c_str(), out);
    case StubExit::Kind::kException:
      break;
  }
  switch (exit.vector) {
    case kVectorPf:
      return answer_fault(op, exit, out) ? Attempt::kOver : Attempt::kAgain;
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

bool CoreKvmSubject::answer_fault(const Op& op, const StubExit& exit, Outcome& out) {
  mmu::u32 error_code = exit.error_code;
  // A processor checks read-modify-write as a store from the start; an emulator reads first.
  if (host_.emulates_supervisor() && op.access() == AccessKind::kRmw) error_code |= pfec::kW;
  return steps().answer_fault(op, exit.cr2, error_code, out);
}

void CoreKvmSubject::finish_native(const Op& op, const StubExit& exit, Outcome& out) {
  out.kind = OutcomeKind::kOk;
  if (op.access() != AccessKind::kWrite)
    out.value = extract(exit.rax, 0, static_cast<unsigned>(op.size));
  if (stores(op)) note_landings(out);
}

Attempt CoreKvmSubject::finish_fetch(const Op& op, const StubExit& exit, Outcome& out) {
  const FetchLender::Lent* found = lender_.found(exit.rax);
  if (found == nullptr)
    return stop(Complaint::kEscape, "a fetch found a word that is nowhere near", out);
  out.kind = OutcomeKind::kOk;
  out.value = found->original;
  std::uint64_t offset = 0;
  const GuestWalk fresh = walk(*this, registers_of(op).cr3, op.gva);
  const SlotView* slot = fresh.complete ? slots_[0].find(fresh.gpa) : nullptr;
  const std::uint64_t today = slot != nullptr ? slot->hva_of(fresh.gpa) - kHvaBase : 0;
  if (slot != nullptr && arena_.offset_of(found->key, offset) &&
      offset == (today & ~std::uint64_t{7})) {
    out.gpa[0] = fresh.gpa;
  }
  return Attempt::kOver;
}

}  // namespace twinwalk::kvm
