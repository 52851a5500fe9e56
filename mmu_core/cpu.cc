#include "mmu_core/cpu.h"

namespace mmu {
namespace {

// Bits of PKRU for one key: access disable and, above it, write disable.
constexpr u32 kPkruAccessDisable = 1;
constexpr u32 kPkruWriteDisable = 2;

bool is_user(const AccessRequest& request) { return request.user && !request.implicit; }

// U/S, R/W, XD, WP, SMEP and SMAP: everything but protection keys.
bool rights_violated(const WalkContext& context, bool ac, u8 access, AccessRequest request) {
  const bool user_page = access & acc::kU;
  const bool writable = access & acc::kW;
  const bool executable = access & acc::kX;
  if (is_user(request)) {
    return !user_page || (request.write && !writable) || (request.fetch && !executable);
  }
  if (request.fetch) return !executable || (user_page && context.smep);
  // EFLAGS.AC opens the door to explicit accesses only.
  if (user_page && context.smap && (request.implicit || !ac)) return true;
  return request.write && !writable && context.wp;
}

// SDM 3A "Protection Keys" and the definition of the PK flag: decided whatever the other rights
// say.
bool key_violated(const WalkContext& context, u32 pkru, u8 access, u8 pkey, AccessRequest request) {
  if (!context.pke || request.fetch || !(access & acc::kU)) return false;
  const u32 key = pkru >> (2 * pkey);
  if (key & kPkruAccessDisable) return true;
  return (key & kPkruWriteDisable) && request.write && (is_user(request) || context.wp);
}

}  // namespace

WalkContext make_walk_context(const Capabilities& caps, const CpuRegisters& regs) {
  WalkContext context;
  const bool pae = regs.cr4 & cr4::kPae;
  const bool nxe = regs.efer & efer::kNxe;
  context.smm = regs.smm;
  if (!(regs.cr0 & cr0::kPg)) return context;  // nothing else acts without paging
  if (!pae) {
    context.mode = &k32Bit;
  } else if (!(regs.efer & efer::kLma)) {
    context.mode = &kPae;
  } else {
    context.mode = (regs.cr4 & cr4::kLa57) ? &k5Level : &k4Level;
  }
  context.pse = !pae && (regs.cr4 & cr4::kPse);
  context.nx = nxe && pae;
  context.wp = regs.cr0 & cr0::kWp;
  context.smep = regs.cr4 & cr4::kSmep;
  context.smap = regs.cr4 & cr4::kSmap;
  context.pke = (regs.cr4 & cr4::kPke) && (regs.efer & efer::kLma);
  context.reports_fetch = context.smep || context.nx;
  context.reserved = guest_reserved_bits(*context.mode, caps, context.nx, context.pse);
  context.pdpte_reserved = pdpte_reserved_bits(caps);
  return context;
}

PageRole base_role(const WalkContext& context) {
  PageRole role;
  role.set<PageRole::GuestPaging>(context.mode->kind);
  role.set<PageRole::Smm>(context.smm);
  if (context.mode->kind == Paging::kNone) {
    role.set<PageRole::Direct>(true);
    role.set<PageRole::Wp>(true);
    return role;
  }
  role.set<PageRole::FourByte>(context.mode->entry_bytes == 4);
  role.set<PageRole::Pse>(context.pse);
  role.set<PageRole::Nx>(context.nx);
  role.set<PageRole::Wp>(context.wp);
  role.set<PageRole::SmepNotWp>(context.smep && !context.wp);
  role.set<PageRole::SmapNotWp>(context.smap && !context.wp);
  role.set<PageRole::Pke>(context.pke);
  return role;
}

u32 permission_fault(const WalkContext& context, const CpuRegisters& regs, u8 access, u8 pkey,
                     AccessRequest request) {
  if (key_violated(context, regs.pkru, access, pkey, request)) return pfec::kP | pfec::kPk;
  return rights_violated(context, regs.ac, access, request) ? pfec::kP : 0;
}

u32 request_code(const WalkContext& context, AccessRequest request) {
  u32 code = 0;
  if (request.write) code |= pfec::kW;
  if (is_user(request)) code |= pfec::kU;
  if (request.fetch && context.reports_fetch) code |= pfec::kI;
  return code;
}

}  // namespace mmu
