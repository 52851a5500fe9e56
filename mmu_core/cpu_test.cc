#include "mmu_core/cpu.h"

#include <gtest/gtest.h>

#include <string>

namespace mmu {
namespace {

enum class Kind { kRead, kWrite, kFetch };

// One point of the space: everything that the decision may depend on.
struct Case {
  bool r_w, u_s, xd;                   // of the whole path
  bool wp, smep, smap, pke, nxe, ac;   // controls
  bool access_disable, write_disable;  // PKRU, of the page's key
  u8 cpl;
  bool implicit;
  Kind kind;
};

std::string describe(const Case& c) {
  std::string text = c.kind == Kind::kRead ? "read" : c.kind == Kind::kWrite ? "write" : "fetch";
  const auto add = [&](bool on, const char* name) {
    if (on) text += std::string(" ") + name;
  };
  add(c.cpl == 3, "cpl3");
  add(c.implicit, "implicit");
  add(c.r_w, "r/w");
  add(c.u_s, "u/s");
  add(c.xd, "xd");
  add(c.wp, "wp");
  add(c.smep, "smep");
  add(c.smap, "smap");
  add(c.pke, "pke");
  add(c.nxe, "nxe");
  add(c.ac, "ac");
  add(c.access_disable, "ad");
  add(c.write_disable, "wd");
  return text;
}

// SDM 3A "Determination of Access Rights", bullet by bullet, as a list of what is allowed.
bool allowed_by_rights(const Case& c) {
  const bool user_access = c.cpl == 3 && !c.implicit;
  const bool user_address = c.u_s;
  const bool smap_lets = !c.smap || (c.ac && !c.implicit);
  switch (c.kind) {
    case Kind::kRead:
      return user_access ? user_address : (!user_address || smap_lets);
    case Kind::kWrite:
      if (user_access) return user_address && c.r_w;
      if (!user_address) return !c.wp || c.r_w;
      return c.wp ? (c.r_w && smap_lets) : smap_lets;
    case Kind::kFetch:
      if (user_access) return user_address && (!c.nxe || !c.xd);
      if (!user_address) return !c.nxe || !c.xd;
      return !c.smep && (!c.nxe || !c.xd);
  }
  return false;
}

// SDM 3A "Protection Keys".
bool allowed_by_key(const Case& c) {
  if (!c.pke || !c.u_s || c.kind == Kind::kFetch) return true;
  if (c.access_disable) return false;
  const bool user_access = c.cpl == 3 && !c.implicit;
  return !(c.kind == Kind::kWrite && c.write_disable && (user_access || c.wp));
}

// 0 if allowed. SDM 3A "Page-Fault Exceptions".
u32 expected_code(const Case& c) {
  if (allowed_by_rights(c) && allowed_by_key(c)) return 0;
  u32 code = 1;
  if (c.kind == Kind::kWrite) code += 2;
  if (c.cpl == 3 && !c.implicit) code += 4;
  if (c.kind == Kind::kFetch && (c.smep || c.nxe)) code += 16;
  if (!allowed_by_key(c)) code += 32;
  return code;
}

u32 code_by_core(const Case& c, u8 pkey) {
  CpuRegisters regs;
  regs.cr0 = cr0::kPe | cr0::kPg | (c.wp ? cr0::kWp : 0);
  regs.cr4 =
      cr4::kPae | (c.smep ? cr4::kSmep : 0) | (c.smap ? cr4::kSmap : 0) | (c.pke ? cr4::kPke : 0);
  regs.efer = efer::kLme | efer::kLma | (c.nxe ? efer::kNxe : 0);
  const u32 key = (c.access_disable ? 1u : 0u) | (c.write_disable ? 2u : 0u);
  // All other keys say the opposite, so that looking at the wrong one shows.
  regs.pkru = ~(u32{3} << (2 * pkey)) & ((key ^ 3) * 0x5555'5555u);
  regs.pkru |= key << (2 * pkey);
  regs.cpl = c.cpl;
  regs.ac = c.ac;
  const WalkContext context = make_walk_context(Capabilities{}, regs);
  AccessRequest request;
  request.write = c.kind == Kind::kWrite;
  request.fetch = c.kind == Kind::kFetch;
  request.user = c.cpl == 3 && !c.implicit;
  request.implicit = c.implicit;
  u8 access = 0;
  if (c.r_w) access |= acc::kW;
  if (c.u_s) access |= acc::kU;
  if (!c.xd) access |= acc::kX;
  const u32 code = permission_fault(context, regs, access, pkey, request);
  return code ? code | request_code(context, request) : 0;
}

TEST(PermissionFault, EveryRightByEveryControlByEveryAccess) {
  constexpr unsigned kAxes = 13;
  unsigned checked = 0, faults = 0;
  for (unsigned bits = 0; bits < (1u << kAxes); ++bits) {
    const auto on = [&](unsigned axis) { return (bits >> axis & 1) != 0; };
    for (const Kind kind : {Kind::kRead, Kind::kWrite, Kind::kFetch}) {
      const Case c{on(0),  on(1), on(2), on(3), on(4),  on(5),
                   on(6),  on(7), on(8), on(9), on(10), static_cast<u8>(on(11) ? 3 : 0),
                   on(12), kind};
      if (c.xd && !c.nxe) continue;                        // a reserved-bit fault comes first
      if (c.implicit && c.kind == Kind::kFetch) continue;  // no fetch is implicit
      const u32 expected = expected_code(c);
      for (const u8 pkey : {u8{0}, u8{7}, u8{15}}) {
        ASSERT_EQ(code_by_core(c, pkey), expected) << describe(c) << " pkey=" << unsigned{pkey};
      }
      ++checked;
      faults += expected != 0;
    }
  }
  EXPECT_EQ(checked, 6144u * 5 / 2);  // 3/4 of the rights, two kinds whole and one without implicit
  EXPECT_GT(faults, checked / 4);
  EXPECT_LT(faults, checked);
}

TEST(RequestCode, ImplicitAccessIsSupervisorWhateverTheCpl) {
  const WalkContext context;
  AccessRequest request;
  request.user = true;
  request.implicit = true;
  EXPECT_EQ(request_code(context, request), 0u);
}

TEST(MakeWalkContext, ModeFollowsTheControlBits) {
  CpuRegisters regs;
  EXPECT_EQ(make_walk_context({}, regs).mode, &kNoPaging);
  regs.cr0 = cr0::kPe | cr0::kPg;
  regs.cr4 = cr4::kPae;
  regs.efer = efer::kLme | efer::kLma;
  EXPECT_EQ(make_walk_context({}, regs).mode, &k4Level);
  regs.cr4 |= cr4::kLa57;
  EXPECT_EQ(make_walk_context({}, regs).mode, &k5Level);
  regs.efer = 0;
  EXPECT_EQ(make_walk_context({}, regs).mode, &kPae) << "LA57 counts in IA-32e mode only";
  regs.cr4 = cr4::kPse;
  EXPECT_EQ(make_walk_context({}, regs).mode, &k32Bit);
  EXPECT_TRUE(make_walk_context({}, regs).pse);
  regs.efer = efer::kNxe;
  EXPECT_FALSE(make_walk_context({}, regs).nx) << "4-byte entries have no XD";
}

TEST(MakeWalkContext, FetchIsReportedUnderSmepOrUnderNxeWithPae) {
  CpuRegisters regs;
  regs.cr0 = cr0::kPe | cr0::kPg;
  regs.efer = efer::kNxe;
  EXPECT_FALSE(make_walk_context({}, regs).reports_fetch) << "NXE counts under PAE only";
  regs.cr4 = cr4::kPae;
  EXPECT_TRUE(make_walk_context({}, regs).reports_fetch);
  regs.efer = 0;
  EXPECT_FALSE(make_walk_context({}, regs).reports_fetch);
  regs.cr4 = cr4::kSmep;
  EXPECT_TRUE(make_walk_context({}, regs).reports_fetch);
}

TEST(BaseRole, WpOffUnderSmepOrSmapMakesAnotherRole) {
  WalkContext context;
  context.mode = &k4Level;
  context.smep = context.smap = true;
  context.wp = true;
  EXPECT_FALSE(base_role(context).get<PageRole::SmepNotWp>());
  EXPECT_FALSE(base_role(context).get<PageRole::SmapNotWp>());
  context.wp = false;
  EXPECT_TRUE(base_role(context).get<PageRole::SmepNotWp>());
  EXPECT_TRUE(base_role(context).get<PageRole::SmapNotWp>());
  EXPECT_FALSE(base_role(context).get<PageRole::Wp>());
}

TEST(BaseRole, NxAndPkeAreTold) {
  WalkContext context;
  context.mode = &k4Level;
  EXPECT_FALSE(base_role(context).get<PageRole::Nx>());
  EXPECT_FALSE(base_role(context).get<PageRole::Pke>());
  context.nx = context.pke = true;
  EXPECT_TRUE(base_role(context).get<PageRole::Nx>());
  EXPECT_TRUE(base_role(context).get<PageRole::Pke>());
}

TEST(BaseRole, WithoutPagingNoOtherControlCounts) {
  CpuRegisters regs;
  const PageRole role = base_role(make_walk_context({}, regs));
  EXPECT_TRUE(role.direct());
  regs.cr0 = cr0::kPe | cr0::kWp;
  regs.cr4 = cr4::kSmep | cr4::kSmap | cr4::kPke | cr4::kPae | cr4::kPse;
  regs.efer = efer::kNxe | efer::kLme;
  EXPECT_EQ(base_role(make_walk_context({}, regs)), role);
}

TEST(BaseRole, PagingModesAndPseAreSetApart) {
  CpuRegisters regs;
  regs.cr0 = cr0::kPe | cr0::kPg;
  const PageRole without_pse = base_role(make_walk_context({}, regs));
  regs.cr4 = cr4::kPse;
  const PageRole with_pse = base_role(make_walk_context({}, regs));
  regs.cr4 = cr4::kPae;
  const PageRole pae = base_role(make_walk_context({}, regs));
  regs.efer = efer::kLme | efer::kLma;
  const PageRole four = base_role(make_walk_context({}, regs));
  EXPECT_TRUE(with_pse.four_byte());
  EXPECT_FALSE(pae.four_byte());
  EXPECT_NE(with_pse, without_pse) << "a page directory entry with PS means something else";
  EXPECT_NE(pae, four) << "bits 62:52 are reserved in one of them";
}

}  // namespace
}  // namespace mmu
