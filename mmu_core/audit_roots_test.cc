// What the audit says of vCPUs: their context, their roots, and the host's tables above these.

#include "mmu_core/testing/audit_scene.h"

namespace mmu {
namespace {

using testing::AuditMode;

constexpr const char* kElsewhere = "a table of the host's leads elsewhere than to the root";

class AuditRoots : public testing::AuditTest {
 protected:
  u64* host_table(unsigned level) { return vcpu().host_table[level - 3].ptr; }
  bool array() const { return GetParam().mode->legacy(); }
  ShadowPage& root() { return *vcpu().root.page_for(kVa); }
};
INSTANTIATE_TEST_SUITE_P(, AuditRoots, ::testing::ValuesIn(testing::kPagedModes), testing::name_of);

TEST_P(AuditRoots, ContextIsTheRegisters) {
  falsify(vcpu().context.wp, !vcpu().context.wp);
  EXPECT_TRUE(
      complains(Class::kRole, "a vCPU walks by other rules, or in another space, than it is to"));
}

TEST_P(AuditRoots, RoleIsTheRegisters) {
  PageRole role = vcpu().role;
  role.set<PageRole::Wp>(!role.get<PageRole::Wp>());
  falsify(vcpu().role, role);
  EXPECT_TRUE(
      complains(Class::kRole, "a vCPU walks by other rules, or in another space, than it is to"));
}

// The audit derives rules once for vCPUs whose registers are equal.
TEST_P(AuditRoots, ContextOfAnIdleVcpuIsItsRegisters) {
  VcpuState& idle = vm().vcpu[kMaxVcpus - 1];
  falsify(idle.context.pke, !idle.context.pke);
  EXPECT_TRUE(
      complains(Class::kRole, "a vCPU walks by other rules, or in another space, than it is to"));
}

TEST_P(AuditRoots, ArrayIsNotKept) {
  falsify(vcpu().previous[1].kind, Root::Kind::kArray);
  EXPECT_TRUE(complains(Class::kCount, "an array is among the kept roots"));
}

TEST_P(AuditRoots, InvalidRootIsEmpty) {
  guest.vm().zap_all();
  falsify(root().used, 1);
  EXPECT_TRUE(complains(Class::kCount, "an invalid root has entries", {&root(), 0}));
}

TEST_P(AuditRoots, InvalidRootsAreAsManyAsCounted) {
  guest.vm().zap_all();
  falsify(vm().pages.invalid_roots, vm().pages.invalid_roots - 1);
  EXPECT_TRUE(complains(Class::kCount, "invalid roots differ from a recount"));
}

TEST_P(AuditRoots, ZappedIsLetGo) {
  guest.vm().zap_all();
  falsify(vcpu().free_obsolete_roots, false);
  EXPECT_TRUE(
      complains(Class::kLeak, "a root was zapped, and its vCPU was not asked to let it go"));
}

TEST_P(AuditRoots, DummyHidesNoTable) {
  falsify(vcpu().root, Root{.kind = Root::Kind::kDummy, .cr3 = vcpu().regs.cr3});
  EXPECT_TRUE(complains(Class::kRole, GetParam().mode == &kPae
                                          ? "a dummy stands for a CR3 that names no table"
                                          : "a dummy stands for a table that is there"));
}

// What the MMIO cache says is what a walk finds, as long as nothing moved.
TEST_P(AuditRoots, MmioCacheIsWhatAWalkFinds) {
  guest.read(kDevice);
  MmioCache& cache = vcpu().mmio;
  ASSERT_TRUE(cache.valid);
  constexpr const char* kSays = "a vCPU's MMIO cache knows of what no entry says";
  const MmioCache was = cache;
  cache.gfn = cache.gfn + 1;
  EXPECT_TRUE(complains(Class::kRole, kSays));
  cache = was;
  cache.access ^= acc::kU;
  EXPECT_TRUE(complains(Class::kRole, kSays));
  cache = was;
  cache.page = kVa;
  EXPECT_TRUE(complains(Class::kRole, kSays));
  ++cache.shape;
  EXPECT_TRUE(silent()) << "it is of no use any more";
  cache = was;
}

// ---- trees

class AuditTrees : public AuditRoots {};
INSTANTIATE_TEST_SUITE_P(, AuditTrees, ::testing::ValuesIn(testing::modes_with_arrays(false)),
                         testing::name_of);

TEST_P(AuditTrees, AreOfCr3) {
  falsify(vcpu().root.cr3, vcpu().root.cr3 + kPageSize);
  EXPECT_TRUE(complains(Class::kRole, "the root is that of another CR3 or mode", {&root(), 0}));
}

TEST_P(AuditTrees, AreInIa32eModeOnly) {
  falsify(vcpu().context.mode, &kPae);
  EXPECT_TRUE(complains(Class::kRole, "the root is that of another CR3 or mode", {&root(), 0}));
}

TEST_P(AuditTrees, AreTheTableOfTheirCr3) {
  falsify(root().gfn, root().gfn + 1);
  EXPECT_TRUE(complains(Class::kRole, "a root is not the table that its CR3 names", {&root(), 0}));
}

TEST_P(AuditTrees, AreTheTableOfTheirCr3WhenKept) {
  ShadowPage& kept = root();
  const Gpa other = guest.new_table();
  ASSERT_TRUE(guest.cpu().set_cr3(other.raw));
  falsify(vcpu().previous[0].cr3, other.raw);
  EXPECT_TRUE(complains(Class::kRole, "a root is not the table that its CR3 names", {&kept, 0}));
}

TEST_P(AuditTrees, AreOfTheRules) {
  falsify_role<PageRole::Wp>(root(), !root().role.get<PageRole::Wp>());
  EXPECT_TRUE(complains(Class::kRole, "the root is that of other rules or another address space",
                        {&root(), 0}));
}

TEST_P(AuditTrees, AreOfTheirAddressSpace) {
  falsify_role<PageRole::Smm>(root(), true);
  EXPECT_TRUE(complains(Class::kRole, "the root is that of other rules or another address space",
                        {&root(), 0}));
}

// ---- arrays

class AuditArrays : public AuditRoots {};
INSTANTIATE_TEST_SUITE_P(, AuditArrays, ::testing::ValuesIn(testing::modes_with_arrays(true)),
                         testing::name_of);

TEST_P(AuditArrays, AreOfTheRegisters) {
  if (GetParam().mode == &kPae) {
    falsify(vcpu().regs.pdpte[1], vcpu().regs.pdpte[1] ^ bit(12));
  } else {
    falsify(vcpu().regs.cr3, vcpu().regs.cr3 ^ bit(12));
  }
  EXPECT_TRUE(
      complains(Class::kRole, "a page of the array is not what the registers name", {&root(), 0}));
}

TEST_P(AuditArrays, HaveTheRoleOfTheRegisters) {
  falsify_role<PageRole::Nx>(root(), !root().role.get<PageRole::Nx>());
  EXPECT_TRUE(
      complains(Class::kRole, "a page of the array is not what the registers name", {&root(), 0}));
}

TEST_P(AuditArrays, AreInTheirPlace) {
  ShadowPage*(&pages)[Root::kPages] = vcpu().root.page;
  ShadowPage* const here = pages[1];
  falsify(pages[1], pages[3]);
  falsify(pages[3], here);
  EXPECT_TRUE(
      complains(Class::kRole, "a page of the array is not what the registers name", {pages[1], 0}));
}

TEST_P(AuditArrays, AreComplete) {
  ShadowPage*& page = vcpu().root.page[1];
  ShadowPage* const was = page;
  page = nullptr;
  EXPECT_TRUE(complains(Class::kRole, GetParam().mode == &kPae
                                          ? "a PDPTE names a table that is there, and has no page"
                                          : "a page of the array is missing"));
  page = was;
}

class AuditPdptes : public AuditRoots {};
INSTANTIATE_TEST_SUITE_P(, AuditPdptes,
                         ::testing::Values(AuditMode{"On3Levels", &kPae, 3},
                                           AuditMode{"On5Levels", &kPae, 5}),
                         testing::name_of);

TEST_P(AuditPdptes, ArePresentForEachPage) {
  falsify(vcpu().regs.pdpte[1], vcpu().regs.pdpte[1] & ~pte::kP);
  EXPECT_TRUE(
      complains(Class::kRole, "an array has a page where no PDPTE is latched", {&root(), 0}));
}

TEST_P(AuditPdptes, ThatNameNoMemoryAreKnown) {
  falsify(vcpu().regs.pdpte[0], kNoMemory.raw | pte::kP);
  EXPECT_TRUE(complains(Class::kRole, "a present PDPTE has no page, and nobody knows"));
  falsify(vcpu().root.hole, true);
  EXPECT_TRUE(silent());
}

TEST(AuditDirectRoots, AreOfTheirGigabyte) {
  struct Scene : testing::AuditScene {
    Scene() : AuditScene({"NoPaging", &kNoPaging, 3}) {}
  } scene;
  ShadowPage& page = *scene.vcpu().root.page[1];
  scene.falsify(page.gfn, page.gfn + pages_of_level(3));
  EXPECT_TRUE(scene.complains(AuditFinding::Class::kRole,
                              "a page of the array is not what the registers name", {&page, 0}));
}

// ---- the host's tables

TEST_P(AuditRoots, HostTablesLeadToTheRoot) {
  for (unsigned level = 3; level <= kMaxLevels; ++level) {
    u64* const table = host_table(level);
    if (!table) continue;
    const unsigned index = array() && level == 3 ? 1 : 0;
    ASSERT_NE(table[index], 0u) << "level " << level;
    const u64 was = table[index];
    for (const u64 wrong : {u64{0}, was ^ bit(12), was ^ pte::kP}) {
      table[index] = wrong;
      EXPECT_TRUE(complains(Class::kParent, kElsewhere)) << "level " << level;
    }
    table[index] = was;
  }
}

TEST_P(AuditRoots, HostTablesLeadNowhereElse) {
  for (unsigned level = 3; level <= kMaxLevels; ++level) {
    u64* const table = host_table(level);
    if (!table) continue;
    const unsigned last = array() && level == 3 ? 0 : 3;
    const u64 was = table[last];
    table[last] = spte::make_nonleaf(page(kVa).hpa);
    EXPECT_TRUE(complains(Class::kParent, kElsewhere)) << "level " << level;
    table[last] = was;
  }
}

// Negative addresses go through the last entry above a tree, and through none above an array.
TEST_P(AuditRoots, LastEntryOfHostTablesIsWhatItIsToBe) {
  for (unsigned level = 3; level <= kMaxLevels; ++level) {
    u64* const table = host_table(level);
    if (!table) continue;
    u64& last = table[kEntries - 1];
    ASSERT_EQ(last != 0, !array()) << "level " << level;
    const u64 was = last;
    last = was ? 0 : spte::make_nonleaf(root().hpa);
    EXPECT_TRUE(complains(Class::kParent, kElsewhere)) << "level " << level;
    last = was;
  }
}

TEST_P(AuditRoots, HostTableThatIsNeededIsThere) {
  for (TablePage& table : vcpu().host_table) {
    if (!table.ptr) continue;
    u64* const was = table.ptr;
    table.ptr = nullptr;
    EXPECT_TRUE(complains(Class::kParent, kElsewhere));
    table.ptr = was;
  }
}

TEST_P(AuditRoots, HostTableThatIsNotNeededIsEmpty) {
  u64 unused[kEntries] = {spte::make_nonleaf(root().hpa)};
  for (unsigned level = 3; level <= kMaxLevels; ++level) {
    TablePage& table = vcpu().host_table[level - 3];
    if (table.ptr) continue;
    table.ptr = unused;
    EXPECT_TRUE(complains(Class::kParent, kElsewhere)) << "level " << level;
    table.ptr = nullptr;
  }
}

}  // namespace
}  // namespace mmu
