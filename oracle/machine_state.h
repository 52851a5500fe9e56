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
#include "oracle/spec.h"
#include "oracle/walk.h"

namespace twinwalk::oracle {

struct VcpuState {
  Registers registers;
  History history;
  bool nxe_was_on = false;  // EFER.NXE was 1 at some time of this trace
  Time serialized = 0;      // last serializing instruction or exception
};

class MachineState {
 public:
  MachineState();
  void reset(const Machine& machine, Profile profile);

  const Machine& machine() const { return machine_; }
  Profile profile() const { return profile_; }
  Time now() const { return now_; }
  Time tick() { return ++now_; }
  VcpuState& vcpu(unsigned i) { return vcpus_[i]; }
  const VcpuState& vcpu(unsigned i) const { return vcpus_[i]; }
  const GuestMemory& memory() const { return memory_; }
  const EntryRules& rules(bool nxe) const { return rules_[nxe]; }
  const EntryRules& rules_cached(unsigned vcpu) const { return rules_[vcpus_[vcpu].nxe_was_on]; }
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
    return memory_.read(gpa, word) ? word : mmio_word(gpa);
  }
  // Whether that range has a byte in the aligned word at gpa `word`, also by an alias.
  bool range_meets(std::uint64_t gpa, std::uint64_t gpa2, unsigned size, std::uint64_t word) const;

  // A and D of the entry at `gpa` (8-aligned) that a subject may lawfully hold other than load_word
  // says: see open_bits.h.
  bool anything_open() const { return !open_.empty(); }
  std::uint64_t open_bits(std::uint64_t gpa) const {
    if (open_.empty()) return 0;
    const Memslot* slot = slots_.find(gpa);
    return slot == nullptr ? 0 : open_.at(Memslots::hva_of(*slot, gpa));
  }
  void leave_open(std::uint64_t gpa, std::uint64_t bits) {
    if (const Memslot* slot = slots_.find(gpa)) open_.open(Memslots::hva_of(*slot, gpa), bits);
  }
  // They are as load_word has them.
  void settle_open(std::uint64_t gpa) {
    const Memslot* slot = open_.empty() ? nullptr : slots_.find(gpa);
    if (slot != nullptr) open_.close(Memslots::hva_of(*slot, gpa), ~std::uint64_t{0});
  }

  bool is_memory(std::uint64_t gpa) const { return slots_.find(gpa) != nullptr; }
  bool is_writable(std::uint64_t gpa) const {
    const Memslot* s = slots_.find(gpa);
    return s != nullptr && !s->read_only;
  }
  // The frame at gpa was taken back or moved by the host in this trace.
  bool frame_changed(std::uint64_t gpa) const {
    const Memslot* s = slots_.find(gpa);
    return s != nullptr && image_.frame_since(Memslots::hva_of(*s, gpa)) != 0;
  }

  // Host events. False: refused, nothing changed.
  bool slot_add(const Op& op);
  bool slot_delete(const Op& op);
  bool slot_move(const Op& op);
  bool slot_flags(const Op& op);
  void frames_dropped(std::uint64_t hva, std::uint64_t pages);
  void frames_moved(std::uint64_t hva, std::uint64_t pages);
  const Memslot& slot(std::uint64_t id) const { return slots_.slot(id); }
  const std::vector<std::uint64_t>& dirty_owed(std::uint64_t slot) const {
    return dirty_.owed(static_cast<unsigned>(slot));
  }
  void dirty_collected(std::uint64_t slot) { dirty_.clear(static_cast<unsigned>(slot)); }

  // What the guest's register writes and invalidations do to cached translations.
  void registers_written(unsigned vcpu, Reg reg, const Registers& after, bool no_flush);
  void invlpg(unsigned vcpu, std::uint64_t gva);
  void invpcid(unsigned vcpu, std::uint64_t type, std::uint64_t pcid, std::uint64_t gva);
  // A #PF for `gva` was delivered (rule 4); the structures now map the address with a page of
  // `bytes`, 4K if none.
  void page_faulted(unsigned vcpu, std::uint64_t gva, std::uint64_t bytes);

  // The observer's view of a page may be out of date after memslot and frame changes; brings it up
  // to date.
  void announce(std::uint64_t gpa);

 private:
  // Of the word's bits those in `mask` are stored; the others of `value` are what they were.
  void put_word(std::uint64_t gpa, std::uint64_t value, std::uint64_t mask, Hand hand);
  void store_part(std::uint64_t gpa, unsigned size, std::uint64_t value, Hand hand);
  std::uint64_t load_two_words(std::uint64_t gpa, std::uint64_t gpa2, unsigned size) const;
  void note_dirty(const Memslot& slot, std::uint64_t gpa);
  std::uint64_t bytes_now_mapping(const VcpuState& vcpu, std::uint64_t gva) const;
  void cr4_written(VcpuState& v, std::uint64_t before, std::uint64_t after, Time now);

  Machine machine_;
  Profile profile_ = Profile::kKvm;
  Memslots slots_;
  Image image_;
  GuestMemory memory_;
  DirtyLog dirty_;
  OpenBits open_;
  EntryRules rules_[2];  // by EFER.NXE
  std::array<VcpuState, kMaxVcpus> vcpus_;
  Time now_ = 0;
  bool views_changed_ = false;            // memslots or frames changed in this trace
  std::vector<std::uint64_t> announced_;  // gfns told to the observer since the last such change
};

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_MACHINE_STATE_H_
