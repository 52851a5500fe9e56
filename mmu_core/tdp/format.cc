#include "mmu_core/tdp/format.h"

namespace mmu::tdp {
namespace {

namespace ept {
constexpr u64 kR = bit(0), kW = bit(1), kX = bit(2), kIgnorePat = bit(6), kA = bit(8), kD = bit(9),
              kUx = bit(10);
constexpr u64 kWriteBack = 6;
using Type = Field<3, 5>;
// In EPT_POINTER.
using PointerLevels = Field<3, 5>;
constexpr u64 kPointerAd = bit(6);
}  // namespace ept

u8 largest_of(const TdpCapabilities& tdp) {
  if (!tdp.large_2m) return 1;
  return tdp.large_1g ? u8{3} : u8{2};
}

// SDM 3C "EPT Misconfigurations": what is reserved whatever else the entry says.
ReservedBits ept_reserved(const Format& f, u8 maxphyaddr) {
  ReservedBits r;
  const u64 beyond = bits(maxphyaddr, 51);
  for (unsigned level = 1; level <= f.levels; ++level) {
    r.table[level - 1] = level == 1 ? beyond : beyond | bits(3, 6);
    r.large[level - 1] = ~u64{0};
  }
  for (unsigned level = 2; level <= f.largest; ++level)
    r.large[level - 1] = beyond | bits(12, 12 + 9 * (level - 1) - 1);
  return r;
}

ReservedBits npt_reserved(const Format& f, const VmConfig& config) {
  Capabilities host = config.caps;
  host.maxphyaddr = config.caps.host_maxphyaddr;
  host.gbpages = f.largest >= 3;
  host.vendor = Vendor::kAmd;
  const PagingMode& mode = f.levels == 3 ? kPae : f.levels == 4 ? k4Level : k5Level;
  ReservedBits r = guest_reserved_bits(mode, host, f.no_exec != 0, false);
  if (f.largest < 2) r.large[1] = ~u64{0};
  if (f.levels == 3) r.table[2] = pdpte_reserved_bits(host);
  return r;
}

Format make_ept(const VmConfig& config) {
  const TdpCapabilities& tdp = config.tdp;
  Format f;
  f.ept = true;
  f.ad = tdp.ad;
  f.levels = config.host_levels >= 5 ? u8{5} : u8{4};
  f.gpa_bits = f.levels == 5 ? 57 : 48;
  f.largest = largest_of(tdp);
  f.mmio_bits = 52;
  f.read = ept::kR;
  f.write = ept::kW;
  f.exec = ept::kX | (tdp.mbec ? ept::kUx : 0);
  f.accessed = f.ad ? ept::kA : 0;
  f.dirty = f.ad ? ept::kD : 0;
  f.host_writable = bit(57);
  f.mmu_writable = bit(58);
  f.leaf = ept::Type::put(0, ept::kWriteBack) | ept::kIgnorePat | (f.ad ? 0 : kAdDisabled);
  f.mmio = ept::kW | ept::kX;
  f.mmio_mask = ept::kR | ept::kW | ept::kX;
  f.reserved = ept_reserved(f, config.caps.host_maxphyaddr);
  return f;
}

// With a host in PAE mode addresses have 32 bits.
Format make_npt(const VmConfig& config) {
  Format f;
  f.ept = false;
  f.ad = true;
  f.levels = config.host_levels;
  f.gpa_bits = f.levels == 3 ? 32 : f.levels == 4 ? 48 : 57;
  f.largest = largest_of(config.tdp);
  if (f.levels == 3 && f.largest > 2) f.largest = 2;
  f.mmio_bits = config.caps.host_maxphyaddr <= 51 ? 51 : 0;
  f.read = pte::kP;
  f.write = pte::kW;
  f.no_exec = config.tdp.nx ? pte::kXd : 0;
  f.accessed = pte::kA;
  f.dirty = pte::kD;
  f.host_writable = bit(9);
  f.mmu_writable = bit(10);
  f.leaf = pte::kU;
  f.mmio = pte::kP | kNptMmioMark;
  f.mmio_mask = f.mmio;
  f.reserved = npt_reserved(f, config);
  return f;
}

}  // namespace

Format make_format(const VmConfig& config) {
  return config.translation == Translation::kEpt ? make_ept(config) : make_npt(config);
}

u64 make_leaf(const Format& f, const LeafParts& p) {
  u64 e = p.pfn.base().raw | kPresent | f.read | f.leaf | f.accessed;
  if (p.level > 1) e |= kLarge;
  e |= p.executable ? f.exec : f.no_exec;
  if (p.host_writable) e |= f.host_writable;
  if (p.mmu_writable) e |= f.mmu_writable;
  if (p.writable) e |= f.write | f.dirty;
  return e;
}

// A link grants everything: rights are the leaf's. A PDPTE of PAE paging has none to grant, and no
// A.
u64 make_table(const Format& f, Hpa table, unsigned level) {
  if (!f.ept && f.levels == 3 && level == 3) return table.raw | kPresent | f.read;
  const u64 user = f.ept ? 0 : pte::kU;
  const u64 kind = f.ad ? f.accessed : kAdDisabled;
  return table.raw | kPresent | f.read | f.write | f.exec | user | kind;
}

u64 make_mmio(const Format& f, Gfn gfn, u64 generation) {
  const u64 rights = f.ept ? 0 : pte::kW | pte::kU;
  const u64 e =
      MmioGenLow::put(gfn.base().raw | f.mmio | rights, generation & MmioGenLow::mask >> 3);
  return MmioGenHigh::put(e,
                          generation >> MmioGenLow::width & ((u64{1} << MmioGenHigh::width) - 1));
}

bool change_owes_flush(const Format& f, u64 was, u64 now) {
  if (!is_present(was) || !in_hardware(f, was)) return false;
  if (!is_present(now) || !in_hardware(f, now)) return true;
  const u64 taken = was & ~now, given = now & ~was;
  if (taken & (f.read | f.write | f.exec | f.dirty)) return true;
  if (given & f.no_exec) return true;
  return ((was ^ now) & (kAddress | kLarge)) != 0;
}

u64 pointer(const Format& f, Hpa root) {
  if (!f.ept) return root.raw;
  const u64 p = ept::PointerLevels::put(root.raw | ept::kWriteBack, f.levels - 1u);
  return f.ad ? p | ept::kPointerAd : p;
}

}  // namespace mmu::tdp
