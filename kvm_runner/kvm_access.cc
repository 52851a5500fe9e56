// Accesses of subject `kvm`.

#include <algorithm>

#include "harness/trace/content.h"
#include "kvm_runner/kvm_subject.h"
#include "kvm_runner/step_limits.h"

namespace twinwalk::kvm {
namespace {

bool stores(AccessKind kind) { return kind == AccessKind::kWrite || kind == AccessKind::kRmw; }

Stub stub_of(const Op& op) {
  switch (op.access()) {
    case AccessKind::kWrite:
      return sized(Stub::kStore8, op.size);
    case AccessKind::kRmw:
      return sized(Stub::kRmw8, op.size);
    default:
      return sized(Stub::kLoad8, op.size);
  }
}

// What the entry that ended a complete walk maps.
std::uint64_t page_bytes(Mode mode, unsigned entries) {
  const bool narrow = mode == Mode::k32Bit;
  const unsigned levels = mode == Mode::k5Level ? 5 : mode == Mode::k4Level ? 4 : narrow ? 2 : 3;
  if (mode == Mode::kNone || entries >= levels) return kPage;
  return kPage << (narrow ? 10 : 9) * (levels - entries);
}

// Memory with the PDPTEs that a vCPU has loaded.
class WithPdptes final : public WordReader {
 public:
  WithPdptes(const WordReader& memory, std::uint64_t root, std::array<std::uint64_t, 4> pdptes)
      : memory_(memory), root_(root), pdptes_(pdptes) {}
  bool read_word(std::uint64_t gpa, std::uint64_t& word) const override {
    if (gpa - root_ >= sizeof(pdptes_)) return memory_.read_word(gpa, word);
    word = pdptes_[(gpa - root_) / 8];
    return true;
  }

 private:
  const WordReader& memory_;
  const std::uint64_t root_;
  const std::array<std::uint64_t, 4> pdptes_;
};

// At the INT3 that ends the word. KVM's emulator has none, and where it fails for a guest's guest
// it tells that guest of #UD. It emulates whatever is run where a table of the guest's is a nested
// table, too: KVM write-protects those, and each walk counts as a store.
bool has_arrived(const StubExit& exit, std::uint64_t gva, bool nested) {
  if (exit.kind != StubExit::Kind::kException) return false;
  const std::uint64_t behind = gva + FetchLender::kWordLength;
  return (exit.vector == kVectorBp && exit.rip == behind) ||
         (nested && exit.vector == kVectorUd && exit.rip == behind - 1);
}

// The walk asks for a table where there is no memory.
bool ends_at_device(const GuestWalk& w) {
  return !w.complete && (w.path.count == 0 || (w.path.entry[w.path.count - 1] & pte::kP) != 0);
}

}  // namespace

// Whether the word holds what the store, or its half, leaves there. Others may have changed by the
// walk, which sets A and D.
bool KvmSubject::shows_store(const Op& op, const Halves& halves, const Candidate& candidate,
                             const Outcome& out) {
  const bool rmw = op.access() == AccessKind::kRmw;
  const std::uint64_t stored = rmw ? out.value + op.value : op.value;
  const unsigned first = candidate.half == 0 ? 0 : halves.half[0].size;
  const auto at = static_cast<unsigned>(candidate.offset & 7);
  const unsigned size = std::min(halves.half[candidate.half].size, 8 - at);
  return extract(candidate.after, at, size) == extract(stored, first, size);
}

// Whether the word differs by that store, which lies within it, and by nothing else.
bool KvmSubject::holds_store(const Op& op, const Candidate& candidate) {
  const unsigned shift = 8 * static_cast<unsigned>(candidate.offset & 7);
  const std::uint64_t mask =
      (op.size == 8 ? ~std::uint64_t{0} : bit(8 * static_cast<unsigned>(op.size)) - 1) << shift;
  const std::uint64_t old = op.access() == AccessKind::kRmw ? candidate.before >> shift : 0;
  return candidate.after == ((candidate.before & ~mask) | (((old + op.value) << shift) & mask));
}

// 32-bit code reaches eight bytes at once by MMX registers alone.
bool KvmSubject::lacks_eight_bytes(const Op& op, const Registers& now) {
  return op.size == 8 && is_legacy(now) && (now.cr0 & (cr0::kEm | cr0::kTs)) != 0;
}

// By the tables as they are in memory, or will be at that step of a batch.
GuestWalk KvmSubject::walk_now(unsigned vcpu, std::uint64_t gva) const {
  return nested() ? walk_both(vcpu, gva) : walk(foretold_, registers_[vcpu], gva);
}

KvmSubject::Halves KvmSubject::split(const Op& op) const {
  Halves halves;
  const bool is_fetch = op.access() == AccessKind::kFetch;
  const Registers& r = registers_[op.vcpu];
  const std::uint64_t target = linear(r, op.gva);
  const std::uint64_t gva = is_fetch ? target & ~std::uint64_t{7} : target;
  const unsigned size = is_fetch ? 8 : static_cast<unsigned>(op.size);
  const auto room = static_cast<unsigned>(kPage - (gva & (kPage - 1)));
  halves.half[0] = {gva, std::min(size, room), {}};
  halves.count = 1;
  if (size > room) halves.half[halves.count++] = {linear(r, gva + room), size - room, {}};
  for (unsigned i = 0; i < halves.count; ++i) {
    Half& half = halves.half[i];
    if (canonical(r, half.gva)) half.walk = walk_now(op.vcpu, half.gva);
  }
  return halves;
}

// One half is memory that can be stored to, the other is not: KVM would store the half, the trace's
// rule is neither. So it is where a stale translation may find a device.
bool KvmSubject::halves_differ(const Halves& halves) const {
  if (halves.count < 2 || !halves.half[0].walk.complete || !halves.half[1].walk.complete)
    return false;
  const auto writable = [&](std::uint64_t gpa) {
    const Slot* slot = memory_.slots().find(gpa);
    return slot != nullptr && !slot->read_only;
  };
  const bool first = writable(halves.half[0].walk.gpa), second = writable(halves.half[1].walk.gpa);
  const bool by_stale =
      lender_.led_to_device(halves.half[0].gva) || lender_.led_to_device(halves.half[1].gva);
  return first != second || (first && by_stale);
}

bool KvmSubject::goes_by_read_only(const GuestWalk& walk) const {
  return std::any_of(walk.at, walk.at + walk.path.count, [this](std::uint64_t at) {
    const Slot* const slot = memory_.slots().find(at);
    return slot != nullptr && slot->read_only;
  });
}

SkipReason KvmSubject::why_not_access(const Op& op, const Halves& halves) const {
  const Registers& r = registers_[op.vcpu];
  const Mode mode = mode_of(r.cr0, r.cr4, r.efer);
  if (op.implicit != 0 || lacks_eight_bytes(op, r)) return SkipReason::kHostLacksFeature;
  // SDM 3A §"Limit Checking": an access that runs on at 0 may fault by its segment, or not.
  if (halves.count == 2 && halves.half[1].gva == 0 && is_legacy(r))
    return SkipReason::kHostLacksFeature;
  if (stores(op.access()) && halves_differ(halves)) return SkipReason::kHostLacksFeature;
  const bool guest_1g = machine_.has(feature::k1G),
             host_1g = (host_.features() & feature::k1G) != 0;
  // Two-dimensional paging walks with what the processor has, whatever CPUID says.
  const bool wrong_1g = host_.shadows() ? guest_1g && !host_1g : guest_1g != host_1g;
  const std::uint64_t between = bit(host_.maxphyaddr()) - bit(machine_.maxphyaddr);
  for (unsigned i = 0; i < halves.count; ++i) {
    const Half& half = halves.half[i];
    const Layout& layout = memory_.layout();
    if (layout.reserves(mode, half.gva) || layout.reserves(mode, half.gva + half.size - 1))
      return SkipReason::kHostLacksFeature;
    const GuestWalk& w = half.walk;
    if (w.meets_runner) return SkipReason::kHostLacksFeature;
    if (w.complete && memory_.touches_runner(w.gpa, half.size))
      return SkipReason::kHostLacksFeature;
    // The same of 4M pages above 4 GiB.
    const bool wrong_pse36 = mode == Mode::k32Bit && !host_.shadows() &&
                             !machine_.has(feature::kPse36) && (w.entries_seen & pte::kPs) != 0;
    if (wrong_pse36) return SkipReason::kHostLacksFeature;
    if (w.large_1g && wrong_1g) return SkipReason::kHostLacksFeature;
    if ((w.entries_seen & between) != 0 && !host_.honours_smaller_maxphyaddr())
      return SkipReason::kHostLacksFeature;
    // AMD's nested paging has each step of the walk as a store. KVM does not provide for that in a
    // read-only memslot (FNAME(update_accessed_dirty_bits)): it emulates the instruction, with the
    // table's address for that of the operand.
    const bool walk_stores = host_.vendor() == Vendor::kAmd && !host_.shadows();
    if (walk_stores && !nested() && goes_by_read_only(half.walk))
      return SkipReason::kHostLacksFeature;
    // KVM cannot emulate an instruction that it has to read from a device, nor, where the processor
    // walks and comes to a table there, one that it cannot walk to.
    const bool device = (w.complete && memory_.slots().find(w.gpa) == nullptr) ||
                        (!host_.shadows() && !nested() && ends_at_device(w));
    if (device && op.access() == AccessKind::kFetch) return SkipReason::kHostLacksFeature;
  }
  return SkipReason::kNone;
}

void KvmSubject::access(const Op& op, Outcome& out) {
  const Halves halves = split(op);
  const SkipReason reason = why_not_access(op, halves);
  if (reason != SkipReason::kNone) return skip(out, reason);
  if (!plant_for(op.vcpu, registers(op))) return skip(out, SkipReason::kHostLacksFeature);
  if (op.access() == AccessKind::kFetch) {
    fetch(op, halves.half[0], out);
  } else {
    collect_candidates(op, halves, candidates_);
    const StubExit exit = run_stub(op.vcpu, access_call(op, halves));
    for (Candidate& c : candidates_) c.after = memory_.trace_word(c.offset & ~std::uint64_t{7});
    conclude_access(op, halves, candidates_, exit, out);
  }
  if (out.kind != OutcomeKind::kSkip && out.kind != OutcomeKind::kGp) note_paths(op, halves, out);
}

// EFLAGS.AC decides at CPL 0 only, where SMAP looks at it; at CPL 3 it would check alignment.
StubCall KvmSubject::access_call(const Op& op, const Halves& halves) const {
  const Registers& now = registers_[op.vcpu];
  const std::uint8_t cpl = cpl_of(op, now);
  return {stub_of(op), halves.half[0].gva, op.value, cpl, cpl == 0 && now.ac};
}

void KvmSubject::conclude_access(const Op& op, const Halves& halves,
                                 const std::vector<Candidate>& candidates, const StubExit& exit,
                                 Outcome& out) {
  if (!settle(exit, out)) return;
  if (exit.device.seen) {
    out.kind = OutcomeKind::kMmio;
    out.write = stores(op.access());
    out.gpa[0] = exit.device.gpa;
    return;
  }
  out.kind = OutcomeKind::kOk;
  if (op.access() != AccessKind::kWrite)
    out.value = extract(exit.rax, 0, static_cast<unsigned>(op.size));
  if (stores(op.access())) note_landings(op, halves, candidates, out);
}

// Where a store may land: by today's tables, and where the page led before.
void KvmSubject::collect_candidates(const Op& op, const Halves& halves,
                                    std::vector<Candidate>& candidates) {
  candidates.clear();
  for (unsigned i = 0; i < halves.count; ++i) {
    const Half& half = halves.half[i];
    remember_landing(op, half);
    lender_.each_landing(half.gva, [&](std::uint64_t offset) {
      if (offset >= Backing::kSpan) return;  // a large page that is not all memory
      candidates.push_back({i, offset, memory_.trace_word(offset & ~std::uint64_t{7}), 0});
    });
    if (!stores(op.access()) || halves.count != 1) continue;
    lender_.each_shared_landing(half.gva, [&](std::uint64_t offset) {
      const auto same = [&](const Candidate& c) { return c.half == i && c.offset == offset; };
      const bool whole = (offset & 7) + op.size <= 8;
      if (!whole || memory_.slots().gpa_of(offset) == kUnknownGpa || memory_.is_planted(offset) ||
          std::any_of(candidates.begin(), candidates.end(), same))
        return;
      candidates.push_back({i, offset, memory_.trace_word(offset & ~std::uint64_t{7}), 0, true});
    });
  }
}

// A store is seen where the word changed and holds it; a store of what was there already cannot be
// told from none. A word that only another page has led to may be one of the walk's entries.
void KvmSubject::note_landings(const Op& op, const Halves& halves,
                               const std::vector<Candidate>& candidates, Outcome& out) {
  for (const Candidate& c : candidates) {
    if (c.after == c.before || !shows_store(op, halves, c, out)) continue;
    if (c.shared && !holds_store(op, c)) continue;
    const GuestWalk& fresh = halves.half[c.half].walk;
    std::uint64_t today = 0;
    if (fresh.complete && memory_.offset_of(fresh.gpa, today) && today == c.offset) {
      out.gpa[c.half] = fresh.gpa;
    } else if (out.gpa[c.half] == kUnknownGpa) {
      out.gpa[c.half] = memory_.slots().gpa_of(c.offset);
    }
  }
}

void KvmSubject::note_paths(const Op& op, const Halves& halves, Outcome& out) {
  for (unsigned i = 0; i < halves.count; ++i) {
    const Half& half = halves.half[i];
    if (!canonical(registers(op), half.gva)) continue;
    out.path[i] = walk_now(op.vcpu, half.gva).path;
  }
}

// By today's tables. The PDPTEs that count may be others than those in memory.
void KvmSubject::remember_landing(const Op& op, const Half& half) {
  const Registers& r = registers(op);
  const Mode mode = mode_of(r.cr0, r.cr4, r.efer);
  const auto remember = [&](const GuestWalk& walk) {
    std::uint64_t offset = 0;
    if (!walk.complete) return;
    if (memory_.offset_of(walk.gpa, offset)) {
      lender_.remember(half.gva, offset, page_bytes(mode, walk.path.count));
    } else {
      lender_.remember_device(half.gva);
    }
  };
  remember(half.walk);
  if (host_.shadows() && !nested()) remember_by_former_tables(half, mode);
  if (nested()) return;  // AMD's, and so without PDPTE registers
  std::array<std::uint64_t, 4> pdptes;
  if (mode != Mode::kPae || !vm_->get_pdptes(op.vcpu, pdptes)) return;
  const GuestWalk by_loaded = walk(WithPdptes(memory_, root_of(r), pdptes), r, half.gva);
  remember(by_loaded);
  // The machine has no such registers (corpus/known, kvm-amd-loads-pdptes): no path shows in what
  // entries that walk sets A and D, and so the image is not to be compared.
  const auto first = [](const GuestWalk& w) { return w.path.entry[0] & ~pte::kA; };
  if (host_.vendor() == Vendor::kAmd && host_.shadows() && first(by_loaded) != first(half.walk))
    image_valid_ = false;
}

// Former upper entries may be in use with what the lowest ones, where they led, have become since:
// KVM shadows the neighbours of what it was asked for as well (FNAME(pte_prefetch)).
void KvmSubject::remember_by_former_tables(const Half& half, Mode mode) {
  const bool narrow = mode == Mode::k32Bit;
  const unsigned entry_bytes = narrow ? 4 : 8;
  const std::uint64_t page = half.gva / kPage, entries = kPage / entry_bytes;
  const std::uint64_t frame = narrow ? kShape32Bit.root : pte::kAddressMask;
  const GuestWalk& w = half.walk;
  const unsigned count = w.path.count;
  if (w.complete && count != 0 && page_bytes(mode, count) == kPage) {
    const FormerTable table{page / entries, w.at[count - 1] & ~(kPage - 1)};
    if (std::find(former_tables_.begin(), former_tables_.end(), table) == former_tables_.end()) {
      if (former_tables_.size() == kMostTables) former_tables_.erase(former_tables_.begin());
      former_tables_.push_back(table);
    }
  }
  const auto remember = [&](std::uint64_t table, std::uint64_t gva, std::uint64_t needs) {
    const std::uint64_t at = table + gva / kPage % entries * entry_bytes;
    std::uint64_t word = 0, offset = 0;
    if (!foretold_.read_word(at & ~std::uint64_t{7}, word)) return;
    const std::uint64_t entry = extract(word, at & 7, entry_bytes);
    if ((entry & needs) != needs) return;
    if (memory_.offset_of((entry & frame) + gva % kPage, offset)) {
      lender_.remember(gva, offset);
    } else {
      lender_.remember_device(gva);
    }
  };
  for (const FormerTable& table : former_tables_) {
    if (table.region == page / entries) remember(table.at, half.gva, pte::kP);
  }
  // What the neighbours are now they may be to the shadow until a flush.
  constexpr std::uint64_t kPrefetched = 8;  // PTE_PREFETCH_NUM
  if (!w.complete || count == 0 || page_bytes(mode, count) != kPage) return;
  const std::uint64_t table = w.at[count - 1] & ~(kPage - 1), first = page & ~(kPrefetched - 1);
  for (std::uint64_t other = first; other < first + kPrefetched; ++other) {
    if (other != page) remember(table, other * kPage, pte::kP | pte::kA);
  }
}

// The jump goes to the start of the word: its translation is that of every byte of it.
void KvmSubject::fetch(const Op& op, const Half& half, Outcome& out) {
  remember_landing(op, half);
  if (nested() && !may_lend(half, op.vcpu)) return skip(out, SkipReason::kHostLacksFeature);
  std::uint64_t today = FetchLender::kNoKey;
  if (!half.walk.complete || !memory_.offset_of(half.walk.gpa, today)) today = FetchLender::kNoKey;
  const auto original = [&](std::uint64_t offset, std::uint64_t& word) {
    if (offset >= Backing::kSpan) return false;
    word = memory_.trace_word(offset);
    return !memory_.is_planted(offset);
  };
  // A stale translation may lead there, and KVM cannot emulate an instruction from a device.
  if (lender_.led_to_device(half.gva)) return skip(out, SkipReason::kHostLacksFeature);
  if (!lender_.choose(half.gva, today, half.walk.path, original))
    return skip(out, SkipReason::kHostLacksFeature);
  const auto put = [&](std::uint64_t offset, std::uint64_t word) {
    memory_.backing().word(offset) = word;
  };
  const std::uint8_t cpl = cpl_of(op, registers(op));
  lender_.lend(put);
  const StubExit exit =
      run_stub(op.vcpu, {Stub::kFetch, half.gva, 0, cpl, cpl == 0 && registers(op).ac});
  lender_.give_back(put);
  if (!has_arrived(exit, half.gva, nested())) {
    if (settle(exit, out)) stop(out, Complaint::kTrap, "a fetch ran something that is not there");
    if (out.kind == OutcomeKind::kPageFault && out.cr2 == half.gva)
      out.cr2 = linear(registers(op), op.gva);
    if (out.kind == OutcomeKind::kNestedFault && (out.qualification & npfec::kFinal) != 0)
      out.gpa[0] |= op.gva & 7;
    return;
  }
  const FetchLender::Lent* found = lender_.found(exit.rax);
  if (found == nullptr)
    return stop(out, Complaint::kEscape, "a fetch found a word that is nowhere near");
  out.kind = OutcomeKind::kOk;
  out.value = found->original;
  if (found->key == today) out.gpa[0] = half.walk.gpa + (op.gva & 7);
}

}  // namespace twinwalk::kvm
