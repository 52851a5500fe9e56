#ifndef TWINWALK_KVM_RUNNER_GUEST_MEMORY_H_
#define TWINWALK_KVM_RUNNER_GUEST_MEMORY_H_

// The guest's physical memory from the host's side: memslots over host-virtual pages, and what the
// trace has where the runner's root entry lies. Templated on nothing, shared by both subjects.

#include <array>
#include <cstdint>
#include <vector>

#include "harness/trace/guest_tables.h"
#include "harness/trace/machine.h"
#include "harness/trace/op.h"
#include "harness/trace/outcome.h"

namespace twinwalk::kvm {

struct Slot {
  bool live = false, read_only = false, log_dirty = false;
  std::uint64_t gpa = 0, bytes = 0;
  std::uint64_t offset = 0;  // of its first byte in hva space, from kHvaBase
  bool holds(std::uint64_t address) const { return address - gpa < bytes; }
};

// The requests of the host that every subject must refuse, and who holds a gpa.
class SlotTable {
 public:
  void reset(const Machine& machine);
  const Slot* find(std::uint64_t gpa) const;  // nullptr: MMIO
  // A gpa that shows the position `offset` of hva space; kUnknownGpa if none does.
  std::uint64_t gpa_of(std::uint64_t offset) const;
  const Slot& operator[](std::uint64_t id) const { return slots_[id]; }
  bool is_live(std::uint64_t id) const { return id < kMaxSlots && slots_[id].live; }

  // Whether slot `id` (any number) could stand at [gpa, gpa + bytes): aligned, inside MAXPHYADDR,
  // and overlapping no other slot.
  bool fits(std::uint64_t id, std::uint64_t gpa, std::uint64_t bytes) const;
  // Whether op (kSlotAdd) is a request that may be granted.
  bool may_add(const Op& op) const;
  void put(std::uint64_t id, const Slot& slot) { slots_[id] = slot; }

 private:
  std::array<Slot, kMaxSlots> slots_{};
  std::uint64_t limit_ = 0;
};

// Reads a trace's memory; the subject knows where it lies.
class WordReader {
 public:
  // The 8-aligned word at gpa, as the trace sees it. False if there is no memslot.
  virtual bool read_word(std::uint64_t gpa, std::uint64_t& word) const = 0;
  // Whether the page at gpa is reachable to the subject and holds nothing of the runner's at this
  // word.
  virtual bool is_trace_word(std::uint64_t gpa) const {
    (void)gpa;
    return true;
  }

 protected:
  ~WordReader() = default;
};

// What a walk of guest memory meets, without any judgement about permissions or reserved bits.
struct GuestWalk {
  Path path;
  std::uint64_t at[5] = {};        // gpas of the path's entries
  bool complete = false;           // reached a frame
  std::uint64_t gpa = 0;           // if complete: of the byte
  std::uint64_t entries_seen = 0;  // OR of all present entries
  bool large_1g = false;           // a PDPTE with PS
  bool meets_runner = false;       // an entry of the runner's on the way
};

inline bool canonical(std::uint64_t gva, unsigned bits = 48) {
  const unsigned unused = 64 - bits;
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(gva << unused) >> unused) == gva;
}

// Outside IA-32e mode linear addresses are taken modulo 2^32.
inline bool is_legacy(const Registers& r) {
  const Mode mode = mode_of(r.cr0, r.cr4, r.efer);
  return mode != Mode::k4Level && mode != Mode::k5Level;
}
inline std::uint64_t linear(const Registers& r, std::uint64_t gva) {
  return is_legacy(r) ? gva & 0xffff'ffff : gva;
}
// Whether an access to that byte is no #GP.
inline bool canonical(const Registers& r, std::uint64_t gva) {
  const Mode mode = mode_of(r.cr0, r.cr4, r.efer);
  return is_legacy(r) || canonical(gva, mode == Mode::k5Level ? 57 : 48);
}

// Where the first table of these registers' mode is; without paging nothing is there to find.
std::uint64_t root_of(const Registers& r);

// Walks the guest's tables in the mode of its registers, for a gva that is canonical there. With
// paging off the walk is complete at once.
GuestWalk walk(const WordReader& memory, const Registers& registers, std::uint64_t gva);
// With the PDPTEs that the processor has latched: in PAE mode only.
GuestWalk walk_latched(const WordReader& memory, Registers registers,
                       const std::uint64_t (&pdpte)[4], std::uint64_t gva);

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_GUEST_MEMORY_H_
