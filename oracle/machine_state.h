#ifndef TWINWALK_ORACLE_MACHINE_STATE_H_
#define TWINWALK_ORACLE_MACHINE_STATE_H_

// All that the reference knows about the machine at one moment, and the ways in
// which it changes. Judging lies elsewhere (judge.h).

#include <array>
#include <cstdint>
#include <vector>

#include "oracle/dirty_log.h"
#include "oracle/history.h"
#include "oracle/image.h"
#include "oracle/memslots.h"
#include "oracle/open_bits.h"
#include "oracle/paging.h"
#include "oracle/second_dimension.h"
#include "oracle/spec.h"
#include "oracle/walk.h"

namespace twinwalk::oracle {

struct VcpuState {
  Registers registers;
  PdpteRegisters pdptes;  // vendor=intel: mean something with PAE paging
  History history;
  bool smm = false;         // it is in SMM: memory is address space 1
  bool nxe_was_on = false;  // EFER.NXE was 1 at some time of this trace
  Time nxe_left = 0;        // when it last became 0; 0 = it never did
  Time serialized = 0;      // last serializing instruction or exception
  GuestState guest;         // of a bare machine
};

// PAE's PDPTEs, in memory.
struct PdptesInMemory {
  PdpteRegisters registers;
  std::uint64_t open[4] = {};  // A and D that may be set or not (open_bits.h): reserved, in these
};

class MachineState {
 public:
  MachineState();
  void reset(const Machine& machine, Profile profile);

  // A search gave up, by that rule: what the subject did, and left in memory, is not known from now
  // on, and nothing more of this trace can be judged.
  void lose_track(const Rule& rule) { lost_by_ = &rule; }
  const Rule* lost_by() const { return lost_by_; }  // null: it has not

  const Machine& machine() const { return machine_; }
  Profile profile() const { return profile_; }
  Time now() const { return now_; }
  Time tick() { return ++now_; }
  VcpuState& vcpu(unsigned i) { return vcpus_[i]; }
  const VcpuState& vcpu(unsigned i) const { return vcpus_[i]; }
  // The address space in which every gpa below is, and of memory(): that of the vCPU whose step is
  // judged.
  void look_as(unsigned vcpu) { look_at(vcpus_[vcpu].smm ? 1 : 0); }
  void look_at(unsigned space) { space_ = space; }
  const GuestMemory& memory() const { return memory_[space_]; }
  // What an observer knows of memory is address space 0: is this the same?
  bool is_observed_space() const { return space_ == 0 || slots_[0].same_as(slots_[1]); }
  const RuleBook& rule_book() const { return rule_book_; }
  const EntryRules& rules(const Registers& r) const {
    return rule_book_.at(row_of(r), (r.efer & efer::kNxe) != 0);
  }
  // PAE's PDPTEs are registers, loaded when CR3 and a few other bits are written; AMD's processors
  // read them on demand. SDM 3A §"PDPTE Registers"; APM 2 §"Legacy PAE Paging".
  bool latches_pdptes() const { return machine_.vendor == Vendor::kIntel; }
  // Where that vCPU's walks begin.
  WalkRoot walk_root(unsigned vcpu, const Registers& r) const {
    return {r.cr3, latches_pdptes() ? &vcpus_[vcpu].pdptes : nullptr};
  }
  SpecObserver* observer = nullptr;
  bool allocation_fails =
      false;  // the trace asked for failures: a host request may be refused for lack of memory

  // Stores `size` bytes of `value` at `gpa`; pages without memory are left out. Guest and walker
  // stores are noted in the dirty log. gpa2: where the bytes of the second page go, if the range
  // crosses one, and by whose hand.
  void store(std::uint64_t gpa, std::uint64_t gpa2, unsigned size, std::uint64_t value, Hand hand,
             Hand hand2);
  void store(std::uint64_t gpa, std::uint64_t gpa2, unsigned size, std::uint64_t value, Hand hand) {
    store(gpa, gpa2, size, value, hand, hand);
  }
  // The same for a whole aligned word in memory; nothing happens where there is none.
  void store_word(std::uint64_t gpa, std::uint64_t value, Hand hand);
  // `size` bytes at gpa (second page at gpa2). Memory only: bytes without a memslot read as
  // mmio_word.
  std::uint64_t load(std::uint64_t gpa, std::uint64_t gpa2, unsigned size) const {
    const unsigned offset = gpa & 7;
    if (offset + size <= 8) return extract(load_word(gpa & ~std::uint64_t{7}), offset, size);
    return load_two_words(gpa, gpa2, size);
  }
  std::uint64_t load_word(std::uint64_t gpa) const {
    std::uint64_t word;
    return memory().read(gpa, word) ? word : mmio_word(gpa);
  }
  // The entry of 8 or 4 bytes at `gpa`; 4-byte ones are halves of a word.
  std::uint64_t load_entry(std::uint64_t gpa, unsigned bytes) const {
    return bytes == 8 ? load_word(gpa) : extract(load_word(word_of(gpa)), gpa & 4, 4);
  }
  // Flips those bits of an entry, or of the byte at `gpa`.
  void flip_bits(std::uint64_t gpa, std::uint64_t bits, Hand hand) {
    store_word(word_of(gpa), load_word(word_of(gpa)) ^ in_word(gpa, bits), hand);
  }
  // Whether that range has a byte of the entry of `entry_bytes` at gpa `entry`, also by an alias.
  bool range_meets(std::uint64_t gpa, std::uint64_t gpa2, unsigned size, std::uint64_t entry,
                   unsigned entry_bytes) const;

  // A and D of the entry (or word, or byte) at `gpa` that a subject may lawfully hold other than it
  // is here; of the bits those count that lie in it. See open_bits.h.
  bool anything_open() const { return !open_.empty(); }
  std::uint64_t open_bits(std::uint64_t gpa) const {
    if (open_.empty()) return 0;
    const Memslot* slot = slots().find(gpa);
    return slot == nullptr ? 0 : open_.at(Memslots::hva_of(*slot, word_of(gpa))) >> 8 * (gpa & 7);
  }
  void leave_open(std::uint64_t gpa, std::uint64_t bits) {
    if (const Memslot* slot = slots().find(gpa))
      open_.open(Memslots::hva_of(*slot, word_of(gpa)), in_word(gpa, bits));
  }
  // A walk that is under way may have set those bits of the entry at `gpa`, or will.
  void may_have_set(std::uint64_t gpa, std::uint64_t bits);
  // Those bits of the entry at `gpa` are as load_word has them.
  void settle_bits(std::uint64_t gpa, std::uint64_t bits) {
    const Memslot* slot = open_.empty() ? nullptr : slots().find(gpa);
    if (slot != nullptr) open_.close(Memslots::hva_of(*slot, word_of(gpa)), in_word(gpa, bits));
  }
  // Those of the `bytes` at `gpa`, all in one word, are as load_word has them.
  void settle_open(std::uint64_t gpa, unsigned bytes) {
    settle_bits(gpa, ~std::uint64_t{0} >> (64 - 8 * bytes));
  }

  // The entry at `gpa` turned out to have `value`, which differs in A and D at most.
  void show_entry(std::uint64_t gpa, unsigned bytes, std::uint64_t value) {
    // Looked up again by each who shows: an entry used at two steps is one word.
    const std::uint64_t change = load_entry(gpa, bytes) ^ value;
    if (change != 0) flip_bits(gpa, change, change & ~open_bits(gpa) ? Hand::kWalker : Hand::kOpen);
  }

  // As they are in memory now, the first at `first`.
  PdptesInMemory pdptes_at(std::uint64_t first) const;

  bool is_memory(std::uint64_t gpa) const { return slots().find(gpa) != nullptr; }
  // Private where it says shared, or the reverse.
  bool of_other_kind(std::uint64_t gpa) const { return slots().of_other_kind(gpa); }
  bool is_writable(std::uint64_t gpa) const {
    const Memslot* s = slots().find(gpa);
    return s != nullptr && !s->read_only;
  }
  // The frame at gpa was taken back or moved by the host in this trace.
  bool frame_changed(std::uint64_t gpa) const {
    const Memslot* s = slots().find(gpa);
    return s != nullptr && image_.frame_since(Memslots::hva_of(*s, gpa)) != 0;
  }

  // Host events. False: refused, nothing changed.
  bool slot_add(const Op& op);
  bool slot_delete(const Op& op);
  bool slot_move(const Op& op);
  bool slot_flags(const Op& op);
  bool set_private(const Op& op);
  bool track(const Op& op);
  void frames_dropped(std::uint64_t hva, std::uint64_t pages);
  void frames_moved(std::uint64_t hva, std::uint64_t pages);
  const Memslot& slot(std::uint64_t space, std::uint64_t id) const {
    return slots_[space].slot(id);
  }
  std::optional<std::uint64_t> missing_from_log(std::uint64_t space, std::uint64_t slot,
                                                std::span<const std::uint64_t> given) const {
    return dirty_.missing(DirtyLog::number(space, slot), given);
  }
  void dirty_collected(std::uint64_t space, std::uint64_t slot) {
    dirty_.clear(DirtyLog::number(space, slot));
  }

  // What was collected stays in the log until it is cleared (KVM API, capability
  // KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2). A ring gives each page once.
  bool log_stays() const {
    return (machine_.options & (option::kManualClear | option::kDirtyRing)) == option::kManualClear;
  }
  void dirty_cleared(std::uint64_t space, std::uint64_t slot, std::uint64_t first,
                     std::uint64_t pages) {
    dirty_.clear_range(DirtyLog::number(space, slot), first, pages);
  }

  // What the guest's register writes and invalidations do to cached translations. `pdptes`: what
  // the write loaded, or nullptr.
  void registers_written(unsigned vcpu, Reg reg, const Registers& after, bool no_flush,
                         const PdpteRegisters* pdptes);
  // A PDPTE register that was doubtful is so no more.
  // In guest mode: it may have loaded other PDPTE registers instead.
  void may_have_loaded(unsigned vcpu, const PdpteRegisters& pdptes);
  // Of what may have been loaded an access has shown which was (GuestState::settle_root).
  void settle_root(unsigned vcpu, unsigned used);
  void settle_pdpte(unsigned vcpu, unsigned number, bool present);
  // They are set, all at once, and nothing cached survives, because of `rule`.
  void registers_set(unsigned vcpu, const Registers& after, const PdpteRegisters* pdptes,
                     const Rule& rule);
  // Events of a whole vCPU: SMI or RSM; INIT or RESET; it is made anew.
  void smm_changed(unsigned vcpu, bool smm);
  void initialised(unsigned vcpu, bool reset);
  void recreated(unsigned vcpu);
  // The guest's processors are this machine's from now on.
  void capabilities_changed(const Machine& after);
  void invlpg(unsigned vcpu, std::uint64_t gva);
  void invpcid(unsigned vcpu, std::uint64_t type, std::uint64_t pcid, std::uint64_t gva);
  // A #PF for `gva` was delivered (rule 4); the structures now map the address with a page of
  // `bytes`, 4K if none.
  void page_faulted(unsigned vcpu, std::uint64_t gva, std::uint64_t bytes);

  // The hypervisor, which is the trace, enters and leaves guest mode.
  void vm_entered(unsigned vcpu, const Nested& nested, unsigned vpid);
  void vm_exited(unsigned vcpu);

  // The observer's view of a page may be out of date after memslot and frame changes; brings it up
  // to date.
  void announce(std::uint64_t gpa);

 private:
  // Of the word's bits those in `mask` are stored; the others of `value` are what they were.
  void put_word(std::uint64_t gpa, std::uint64_t value, std::uint64_t mask, Hand hand);
  // The word at `hva`, which the vCPU at hand sees at `gpa`.
  void store_and_tell(std::uint64_t hva, std::uint64_t value, Hand hand, std::uint64_t gpa);
  void store_part(std::uint64_t gpa, unsigned size, std::uint64_t value, Hand hand);
  std::uint64_t load_two_words(std::uint64_t gpa, std::uint64_t gpa2, unsigned size) const;
  void note_dirty(const Memslot& slot, std::uint64_t gpa);
  std::uint64_t bytes_now_mapping(unsigned vcpu, std::uint64_t gva) const;
  void guest_invlpg(VcpuState& v, std::uint64_t gva, std::uint64_t bytes);
  void guest_invpcid(VcpuState& v, std::uint64_t type, unsigned pcid, std::uint64_t gva);
  // What a write of one register drops of what is cached.
  struct Dropped {
    bool everything = false;
    bool pcid = false;  // what is not global of the current PCID
    const Rule* rule = nullptr;
  };
  Dropped dropped_by(Reg reg, const Registers& before, const Registers& after, bool no_flush) const;
  // As a vCPU that is created has them: nothing can raise #GP, so one with a reserved bit counts as
  // not present.
  PdpteRegisters pdptes_at_start(std::uint64_t cr3) const;
  static Root root_of(const VcpuState& v);
  const Memslots& slots() const { return slots_[space_]; }
  void slots_changed();
  void log_begins(const Op& op);
  static std::uint64_t word_of(std::uint64_t gpa) { return gpa & ~std::uint64_t{7}; }
  // An entry's bits where its word has them.
  static std::uint64_t in_word(std::uint64_t gpa, std::uint64_t bits) {
    return bits << 8 * (gpa & 7);
  }

  const Rule* lost_by_ = nullptr;
  Machine machine_;
  Profile profile_ = Profile::kKvm;
  std::array<Memslots, kSpaces> slots_;
  Image image_;
  std::array<GuestMemory, kSpaces> memory_;
  unsigned space_ = 0;
  DirtyLog dirty_;
  OpenBits open_;
  RuleBook rule_book_;
  std::array<VcpuState, kMaxVcpus> vcpus_;
  Time now_ = 0;
  bool views_changed_ = false;            // memslots or frames changed in this trace
  std::vector<std::uint64_t> announced_;  // gfns told to the observer since the last such change
};

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_MACHINE_STATE_H_
