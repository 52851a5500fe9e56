#ifndef MMU_CORE_GUEST_WALKER_H_
#define MMU_CORE_GUEST_WALKER_H_

// The one guest walker (KVM: FNAME(walk_addr_generic)). Reads the guest's
// tables through the memslots, checks reserved bits entry by entry and rights
// at the end, and sets A and D by compare-and-exchange.

#include "mmu_core/cpu.h"
#include "mmu_core/guest_memory.h"

namespace mmu {

struct GuestWalk {
  bool ok = false;
  bool slot_leaves = false;  // !ok: a table's memslot is being deleted or moved, walk again later
  u32 error_code = 0;        // !ok: the whole #PF error code
  u8 top = 0;                // level of the root's entries; 0 without paging: no entry was read
  u8 level = 0;              // level of the last entry read: the leaf if ok
  // By level, [l - 1], for l in [level, top]: the table's gfn, the entry's gpa, its value after
  // A/D, and the rights of the path down to and including this entry.
  Gfn table[kMaxLevels];
  Gpa entry_gpa[kMaxLevels];
  u64 entry[kMaxLevels] = {};
  u8 access_through[kMaxLevels] = {};
  Gfn gfn;        // ok: the 4K frame of the address
  u8 access = 0;  // ok: rights of the whole path, leaf included
  u8 pkey = 0;
  // Rights of the path above the table that holds the entry at level l: what the role of that
  // table's shadow page carries (KVM: walker->pt_access).
  u8 access_above(unsigned l) const { return l == top ? acc::kAll : access_through[l]; }
};

enum class AdUpdate : u8 { kYes, kNo /* look only: audit, prefetch */ };

// Without paging gva is the gpa, in a leaf of level 2 that grants everything. PAE paging begins at
// the latched PDPTEs, which carry no rights: top = 2, but level = 3 where the PDPTE itself ends the
// walk.
//
// Precondition: gva canonical in context.mode. Restarts when an entry changes between read and A/D
// update. An entry that cannot be read (no memslot), or whose A/D cannot be written (read-only
// slot), gives ok = false with P = 0.
GuestWalk walk_guest(GuestMemory& memory, const WalkContext& context, const CpuRegisters& regs,
                     Gva gva, AccessRequest request, AdUpdate ad);

// True if every entry of `walk` from the root down to `level` still has the value that the walk
// saw; A or D may have been set since, but not cleared: a translation installed after that would
// hide the next A or D update from the guest (KVM: FNAME(gpte_changed)).
bool walk_still_holds(GuestMemory& memory, const WalkContext& context, const GuestWalk& walk,
                      unsigned level);

// Rights that one guest entry grants: W and U bits, X unless XD (KVM: FNAME(gpte_access)).
u8 entry_access(u64 entry, bool nx);
// Frame that a leaf entry at `level` maps, its first 4K page. One of 4 bytes at level 2 maps 4M and
// has bits 39:32 of its address in 20:13 (KVM: pse36_gfn_delta).
Gfn leaf_gfn(u64 entry, unsigned level, bool four_byte);

}  // namespace mmu

#endif  // MMU_CORE_GUEST_WALKER_H_
