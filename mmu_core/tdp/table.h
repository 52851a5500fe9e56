#ifndef MMU_CORE_TDP_TABLE_H_
#define MMU_CORE_TDP_TABLE_H_

// One table of the second dimension and what the core knows of it (KVM: the tdp_mmu_page side of
// struct kvm_mmu_page).
//
//   Table ──entry──► 512 entries, walked by the hardware
//     └────links───► for each entry that is a link: the child's Table
//
// A child pointer is written while its entry is frozen, and never cleared: who has read the link
// reads a child that covers the same gfns, and that is kept until all readers have left.

#include "mmu_core/concurrent.h"

namespace mmu::tdp {

inline constexpr unsigned kEntries = 512;

struct Table;

struct Links {
  Table* child[kEntries];
};

// What a root is for: whose memory it maps.
struct RootKey {
  u8 space = 0;             // see address_space.h
  bool is_private = false;  // VmConfig::shared_bit: the other of two
  friend bool operator==(RootKey, RootKey) = default;
};

struct Table {
  Hpa hpa;
  Hpa external;  // of a mirror, not of its root: the module's table
  u64* entry = nullptr;
  Links* links = nullptr;  // null at level 1
  Gfn base;                // first gfn that it translates
  u8 level = 0;
  RootKey key;
  Table* parent = nullptr;  // null: a root
  unsigned parent_index = 0;

  // Made only because a large page here may not be executed (nx_huge_pages.h).
  bool for_execution = false;

  // ---- roots. One reference a vCPU that has it loaded, and one of the VM's own until it becomes
  // invalid and is emptied.
  u64 gfn_bits = 0;                  // set in every gfn that it translates: VmConfig::shared_bit
  Concurrent<bool> invalid = false;  // read by faults before they take the lock
  bool to_be_emptied = false;        // invalid, and the VM's own reference is still there
  u32 refs = 0;

  Table* next = nullptr;  // roots: VmState's list. Else: to be freed (removal.h)
};

// One entry.
struct Ref {
  Table* table = nullptr;
  unsigned index = 0;

  u64* word() const { return &table->entry[index]; }
  u64 load() const { return __atomic_load_n(word(), __ATOMIC_ACQUIRE); }
  unsigned level() const { return table->level; }
  u64 pages() const { return pages_of_level(table->level); }
  Gfn gfn() const { return table->base + (u64{index} << (9 * (table->level - 1))); }
  // Precondition: the entry is, or was, a link.
  Table* child() const { return __atomic_load_n(&table->links->child[index], __ATOMIC_ACQUIRE); }
};

// The first of the entries [from, end) that is not 0; `end` if there is none. Most of most tables
// is empty: a cache line at once. Others are full: the next one is looked at first.
inline unsigned first_filled(const Table& table, unsigned from, unsigned end) {
  constexpr unsigned kAtOnce = 8;
  const auto load = [&](unsigned i) { return __atomic_load_n(&table.entry[i], __ATOMIC_RELAXED); };
  while (from < end) {
    if (load(from)) return from;
    if (from % kAtOnce == 0 && end - from >= kAtOnce) {
      u64 any = 0;
      for (unsigned i = 1; i < kAtOnce; ++i) any |= load(from + i);
      if (!any) {
        from += kAtOnce;
        continue;
      }
    }
    ++from;
  }
  return end;
}

constexpr unsigned index_at(Gfn gfn, unsigned level) {
  return static_cast<unsigned>(gfn.raw >> (9 * (level - 1))) & (kEntries - 1);
}

}  // namespace mmu::tdp

#endif  // MMU_CORE_TDP_TABLE_H_
