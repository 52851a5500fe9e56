// Accesses of subject `core-kvm`: the processor tries, the core answers its faults.

#include "harness/core/access_shape.h"
#include "harness/trace/content.h"
#include "kvm_runner/core_kvm_subject.h"
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
bool CoreKvmSubject::lacks_check(const Op& op, const mmu::EntryState& entry) const {
  const bool supervisor = registers_of(op).cpl == 0, fetch = op.access() == AccessKind::kFetch;
  if (entry.levels == 5 && !has_host(feature::kLa57)) return true;
  if (entry.smep && supervisor && fetch && !has_host(feature::kSmep)) return true;
  if (entry.smap && supervisor && !fetch && !has_host(feature::kSmap)) return true;
  return entry.pke && !fetch && !has_host(feature::kPku);
}

// The runner's own linear space, and where a KVM that emulates does not do as a processor: a
// page-crossing store of CPL 0 stores its first part before it translates the second, an access
// that crosses the edge of the canonical addresses faults like any other, and entry 256 of the root
// is its own at CPL 3.
bool CoreKvmSubject::is_out_of_reach(const Op& op, const mmu::EntryState& entry) const {
  const Registers& r = registers_of(op);
  const std::uint64_t first = linear(r, op.gva), last = linear(r, op.gva + op.size - 1);
  const std::uint64_t reserved = reserved_linear(entry.levels);
  if (op.implicit != 0 || first >= reserved || last >= reserved) return true;
  // Below a root of five levels the processor takes what is not canonical to a guest with four.
  const auto is_gp_of_guest_alone = [&](std::uint64_t gva) {
    return entry.levels == 5 && !canonical(r, gva) && canonical(gva, 57);
  };
  if (is_gp_of_guest_alone(first) || is_gp_of_guest_alone(last)) return true;
  if (!host_.emulates_supervisor()) return false;
  const bool supervisor = r.cpl == 0;
  if (!supervisor && (first >> 39 & 511) == 256) return true;
  return crosses(op) && ((supervisor && stores(op)) || canonical(r, first) != canonical(r, last));
}

Attempt CoreKvmSubject::attempt(const Op& op, const mmu::EntryState& entry, Outcome& out) {
  steps().note_core_ran();
  if (lacks_check(op, entry) || is_out_of_reach(op, entry)) {
    out.kind = OutcomeKind::kSkip;
    out.reason = SkipReason::kHostLacksFeature;
    return Attempt::kOver;
  }
  if (op.access() == AccessKind::kFetch) choose_fetch_words(op, entry);
  if (stores(op)) collect_candidates(op, entry);
  return resolve(op, run_stub(op, entry), out);
}

void CoreKvmSubject::finish_access(const Op& op, Outcome& out) {
  const Registers& r = registers_of(op);
  const Memory memory(*this, space_of(op));
  out.path[0] = walk(memory, r, op.gva).path;
  if (crosses(op)) out.path[1] = walk(memory, r, second_page(op)).path;
}

// The hpa of the byte at gva by the core's tables, as the processor will find it if it has nothing
// older; kNoKey if it is no frame of the guest's. Remembers it.
std::uint64_t CoreKvmSubject::landing_of(const mmu::EntryState& entry, std::uint64_t gva) {
  std::uint64_t table = entry.root.raw;
  for (unsigned level = entry.levels; level >= 1 && arena_.is_table(table); --level) {
    const unsigned shift = 12 + 9 * (level - 1);
    const std::uint64_t spte = arena_.table_at(table)[gva >> shift & 511];
    if ((spte & pte::kP) == 0) break;
    table = spte & pte::kAddressMask;
    if (level != 1 && (spte & pte::kPs) == 0) continue;
    const std::uint64_t in_page = bit(shift) - 1, hpa = (table & ~in_page) | (gva & in_page);
    if (!arena_.is_guest(hpa, 1)) break;
    lender_.remember(gva, hpa & ~(kPage - 1));
    return hpa;
  }
  return FetchLender::kNoKey;
}

std::uint64_t CoreKvmSubject::frame_word(std::uint64_t hpa) {
  return *reinterpret_cast<const std::uint64_t*>(arena_.frame_at(hpa & ~std::uint64_t{7}));
}

// Where a store may land: by today's tables, and where the page led before.
void CoreKvmSubject::collect_candidates(const Op& op, const mmu::EntryState& entry) {
  candidates_.clear();
  const Registers& r = registers_of(op);
  const std::uint64_t parts[] = {linear(r, op.gva), linear(r, second_page(op))};
  for (unsigned i = 0; i < (crosses(op) ? 2u : 1u); ++i) {
    if (!canonical(r, parts[i])) continue;
    landing_of(entry, parts[i]);
    lender_.each_landing(parts[i], [&](std::uint64_t hpa) {
      candidates_.push_back({i, hpa, frame_word(hpa)});
    });
  }
}

// A store is seen where the word changed. A frame that is no page's any more has no gpa.
void CoreKvmSubject::note_landings(const Op& op, Outcome& out) {
  for (const Candidate& c : candidates_) {
    std::uint64_t offset = 0;
    if (frame_word(c.hpa) == c.before || out.gpa[c.part] != kUnknownGpa) continue;
    if (arena_.offset_of(c.hpa, offset))
      out.gpa[c.part] = slots_[space_of(op)].only_gpa_of(kHvaBase + offset);
  }
}

// Any word can be lent, entries of the guest's as well: the processor walks the core's.
void CoreKvmSubject::choose_fetch_words(const Op& op, const mmu::EntryState& entry) {
  const std::uint64_t gva = linear(registers_of(op), op.gva) & ~std::uint64_t{7};
  lender_.choose(gva, landing_of(entry, gva), {}, [&](std::uint64_t hpa, std::uint64_t& word) {
    word = frame_word(hpa);
    return true;
  });
}

// What the processor checks the core's entries with. It has no tags: another PCID is another
// address space.
void CoreKvmSubject::load_paging(const Op& op, const mmu::EntryState& entry) {
  Loaded& loaded = loaded_[op.vcpu];
  Loaded wanted{entry.root.raw, kCr4, entry.pcid, loaded.pkru};
  if (entry.levels == 5) wanted.cr4 |= cr4::kLa57;
  // Where the host has no such check this access does not need it: lacks_check().
  if (entry.smep && has_host(feature::kSmep)) wanted.cr4 |= cr4::kSmep;
  if (entry.smap && has_host(feature::kSmap)) wanted.cr4 |= cr4::kSmap;
  if (entry.pke && has_host(feature::kPku)) wanted.cr4 |= cr4::kPke;
  const bool flushed = loaded.cr3 == 0;
  if (!flushed && loaded.pcid != wanted.pcid) vm_->zap_translations();
  if (loaded.cr3 != wanted.cr3 || loaded.cr4 != wanted.cr4)
    vm_->set_paging(op.vcpu, wanted.cr3, wanted.cr4);
  if (flushed) vm_->run(op.vcpu, {Stub::kFlushAll, 0, 0, 0, false});
  if ((wanted.cr4 & cr4::kPke) != 0 && loaded.pkru != registers_of(op).pkru) {
    wanted.pkru = registers_of(op).pkru;
    vm_->run(op.vcpu, {Stub::kWritePkru, wanted.pkru, 0, 0, false});
  }
  loaded = wanted;
}

// Runs a stub on the core's tables with the runner's own entry in the root: the core's audit never
// sees it. Outside IA-32e mode an access may run on from 2^32 to 0, which the processor does not in
// 64-bit mode: there the gigabyte that follows is the first one once more.
StubExit CoreKvmSubject::run_below(const Op& op, const mmu::EntryState& entry,
                                   const Vm::Call& call) {
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
  root[kRootIndex] = root_entry(entry.levels);
  load_paging(op, entry);
  StubExit exit = vm_->run(op.vcpu, call);
  root[kRootIndex] = original;
  if (beyond != nullptr) *beyond = 0;
  return exit;
}

StubExit CoreKvmSubject::run_stub(const Op& op, const mmu::EntryState& entry) {
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
  if (stores(op)) note_landings(op, out);
}

Attempt CoreKvmSubject::finish_fetch(const Op& op, const StubExit& exit, Outcome& out) {
  const FetchLender::Lent* found = lender_.found(exit.rax);
  if (found == nullptr)
    return stop(Complaint::kEscape, "a fetch found a word that is nowhere near", out);
  out.kind = OutcomeKind::kOk;
  out.value = found->original;
  std::uint64_t offset = 0;
  const GuestWalk fresh = walk(Memory(*this, space_of(op)), registers_of(op), op.gva);
  const SlotView* slot = fresh.complete ? slots_[space_of(op)].find(fresh.gpa) : nullptr;
  const std::uint64_t today = slot != nullptr ? slot->hva_of(fresh.gpa) - kHvaBase : 0;
  if (slot != nullptr && arena_.offset_of(found->key, offset) &&
      offset == (today & ~std::uint64_t{7})) {
    out.gpa[0] = fresh.gpa;
  }
  return Attempt::kOver;
}

}  // namespace twinwalk::kvm
