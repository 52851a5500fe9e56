#ifndef MMU_CORE_TESTING_AUDIT_SCENE_H_
#define MMU_CORE_TESTING_AUDIT_SCENE_H_

// A healthy VM with one of each kind of entry, of whose state a test falsifies a fact to see the
// audit complain. What was falsified is repaired at the end, and the audit must be silent again.

#include <gtest/gtest.h>

#include <functional>
#include <ostream>
#include <type_traits>
#include <vector>

#include "mmu_core/spte.h"
#include "mmu_core/state.h"
#include "mmu_core/testing/guest.h"

namespace mmu::testing {

struct AuditMode {
  const char* name;
  const PagingMode* mode;
  u8 host_levels;
};
inline std::ostream& operator<<(std::ostream& out, const AuditMode& m) { return out << m.name; }

// Guests with page tables; roots that are trees and arrays, with and without tables of the host's
// above them.
inline constexpr AuditMode kPagedModes[] = {
    {"Bits32On3Levels", &k32Bit, 3}, {"Bits32On5Levels", &k32Bit, 5}, {"PaeOn3Levels", &kPae, 3},
    {"PaeOn4Levels", &kPae, 4},      {"Levels4", &k4Level, 4},        {"Levels4On5", &k4Level, 5},
    {"Levels5", &k5Level, 5},
};
// Those whose roots are arrays, or trees.
inline std::vector<AuditMode> modes_with_arrays(bool arrays) {
  std::vector<AuditMode> some;
  for (const AuditMode& m : kPagedModes)
    if (m.mode->legacy() == arrays) some.push_back(m);
  return some;
}
inline auto name_of(const ::testing::TestParamInfo<AuditMode>& info) { return info.param.name; }

class AuditScene {
 public:
  using Class = AuditFinding::Class;

  // All below 4 GiB. The first five have one page table, of which kSuper and kClean are no
  // neighbours of kVa.
  static constexpr Gva kVa{0x4060'3000};         // 4K, every right, written
  static constexpr Gva kReadOnly{0x4060'b000};   // without W
  static constexpr Gva kSuper{0x4061'3000};      // without U
  static constexpr Gva kClean{0x4061'b000};      // D clear, read
  static constexpr Gva kDevice{0x4062'3000};     // an MMIO entry
  static constexpr Gva kTable{0x8000'0000};      // where kVa's page table is, read only
  static constexpr Gva kDirectory{0x8000'1000};  // and its page directory
  // One page of the guest's of 2M or 4M each (of 4M these are the upper halves):
  static constexpr Gva kSplit{0xc0a0'0000};  // over host pages of 4K: a direct page
  static constexpr Gva kHuge{0xc0e0'0000};   // over host pages of 2M: a large leaf

  static constexpr Gpa kPage{0x40'0000};  // of kVa
  static constexpr Gpa kSplitPage{0xa0'0000}, kHugePage{0xe0'0000};
  static constexpr Gpa kNoMemory{0x1000'0000};  // of kDevice

  explicit AuditScene(const AuditMode& mode);
  ~AuditScene();
  AuditScene(const AuditScene&) = delete;
  AuditScene& operator=(const AuditScene&) = delete;

  // A fact is something else until the end.
  template <class T>
  void falsify(T& fact, const std::type_identity_t<T>& lie) {
    repairs_.push_back([&fact, truth = fact] { fact = truth; });
    fact = lie;
  }
  template <class F, class V>
  void falsify_role(ShadowPage& page, V value) {
    PageRole role = page.role;
    role.set<F>(value);
    falsify(page.role, role);
  }

  void set_bits(u64& word, u64 bits) { falsify(word, word | bits); }
  void clear_bits(u64& word, u64 bits) { falsify(word, word & ~bits); }
  // The leaf maps this gfn with all rights.
  void falsify_gfn(SpteRef leaf, Gfn gfn) {
    falsify(leaf.page->info->word[leaf.index], gfn.raw << 3 | acc::kAll);
  }
  // [start, end) is being invalidated.
  void pretend_invalidation(Hva start, Hva end) {
    falsify(vm().notifier.in_progress, 1);
    falsify(vm().notifier.start, start);
    falsify(vm().notifier.end, end);
  }
  // The host edits the guest's last entry for gva, which the core is not told of.
  void host_flips(Gva gva, u64 bits);

  // The page counts no entry as filled: none is looked at, whatever else is falsified.
  void hide_entries(ShadowPage& page) {
    for (u64& word : page.filled) falsify(word, 0);
  }

  // Does the audit say this of this entry (of a page: index 0; of the VM: nothing)?
  ::testing::AssertionResult complains(Class cls, const char* what, SpteRef place = {});
  ::testing::AssertionResult silent();

  // The guest writes to its page table with an ordinary store: kVa's page is unsync.
  void make_unsync();

  Guest guest;
  VmState& vm() { return guest.state(); }
  VcpuState& vcpu() { return vm().vcpu[0]; }
  Memslot& slot() { return *vm().spaces[0].slots.by_id(0); }
  // The entry for gva at a level of the shadow.
  SpteRef at(Gva gva, unsigned level = 1);
  ShadowPage& page(Gva gva, unsigned level = 1) { return *at(gva, level).page; }
  RmapHead& rmap(Gpa gpa, unsigned level = 1) { return *slot().rmap(Gfn::of(gpa), level); }
  u16& tracked(Gfn gfn) { return slot().chunk(gfn)->tracked[slot().in_chunk(gfn)]; }
  u16& watched(Gfn gfn) { return slot().chunk(gfn)->watched[slot().in_chunk(gfn)]; }
  HostPage& host(Gpa gpa) { return guest.platform.host_page(kMemory + gpa.raw); }
  // The link of the hash chain that leads to this page.
  ShadowPage*& hash_link(const ShadowPage& page);

 private:
  std::vector<std::function<void()>> repairs_;
};

inline u64& spte_of(SpteRef ref) { return ref.page->spt[ref.index]; }
inline u64& seen_of(SpteRef ref) { return ref.page->info->seen[ref.index]; }

// Tests that hold in every mode with page tables.
class AuditTest : public ::testing::TestWithParam<AuditMode>, protected AuditScene {
 protected:
  AuditTest() : AuditScene(GetParam()) {}
  bool quadrants() const { return GetParam().mode == &k32Bit; }
};

}  // namespace mmu::testing

#endif  // MMU_CORE_TESTING_AUDIT_SCENE_H_
