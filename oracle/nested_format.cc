#include "oracle/nested_format.h"

namespace twinwalk::oracle {
namespace {

// Bits [low, high].
constexpr std::uint64_t span(unsigned low, unsigned high) {
  return low > high ? 0 : (~std::uint64_t{0} >> (63 - high)) & (~std::uint64_t{0} << low);
}

constexpr std::uint64_t kRwx = ept::kR | ept::kW | ept::kX;

// Memory types 2, 3 and 7 do not exist.
constexpr bool type_is_reserved(std::uint64_t leaf) {
  const unsigned type = (leaf & ept::kTypeMask) >> 3;
  return type == 2 || type == 3 || type == 7;
}

}  // namespace

// SDM 3C §"EPT Misconfigurations"; APM 2 §"Page-Translation-Table Entry Fields".
bool NestedFormat::misconfigured(std::uint64_t entry, unsigned level) const {
  const bool maps_page = is_leaf(entry, level);
  if (entry & (maps_page ? leaf : table)[level]) return true;
  if (!ept) return false;
  if (!(entry & ept::kR)) {
    if (entry & ept::kW) return true;
    const std::uint64_t executable = mbec ? ept::kX | ept::kUx : ept::kX;
    if ((entry & executable) && !execute_only) return true;
  }
  return maps_page && type_is_reserved(entry);
}

NestedNeeds NestedFormat::read() const { return {ept ? ept::kR : pte::kU, 0}; }

NestedNeeds NestedFormat::write() const { return {ept ? ept::kR | ept::kW : pte::kU | pte::kW, 0}; }

NestedNeeds NestedFormat::fetch(bool user) const {
  if (ept) return {mbec && user ? ept::kUx : ept::kX, 0};
  return {pte::kU, nxe ? pte::kXd : 0};
}

// SDM 3C §"EPT Translation Mechanism", tables "Format of an EPT ... Entry".
NestedFormat make_ept_format(const Machine& machine, std::uint64_t eptp) {
  NestedFormat f;
  f.flags = (eptp & eptp::kAd) != 0;
  f.mbec = machine.tdp & tdp::kMbec;
  f.execute_only = machine.tdp & tdp::kExecOnly;
  f.levels = (eptp & eptp::kLevelsMask) == eptp::k5Level ? 5 : 4;
  f.address_bits = static_cast<std::uint8_t>(12 + 9 * f.levels);
  f.leaf_levels = static_cast<std::uint8_t>((machine.tdp & tdp::k2M ? 1u << 2 : 0) |
                                            (machine.tdp & tdp::k1G ? 1u << 3 : 0));
  f.present = f.mbec ? kRwx | ept::kUx : kRwx;
  f.accessed = ept::kA;
  f.dirty = ept::kD;
  const std::uint64_t beyond = span(machine.host_maxphyaddr, 51);
  for (unsigned level = 1; level <= f.levels; ++level) {
    f.table[level] = beyond | span(3, 7);
    f.leaf[level] = beyond | span(12, NestedFormat::shift(level) - 1);
  }
  return f;
}

// APM 2 §"Nested Paging": the host's CR4.PAE, LA57, EFER.LMA and NXE choose the format.
NestedFormat make_npt_format(const Machine& machine) {
  Machine host;
  host.vendor = Vendor::kAmd;
  host.maxphyaddr = machine.host_maxphyaddr;
  host.features = machine.tdp & tdp::k1G ? feature::kAll : feature::kAll & ~feature::k1G;
  const unsigned row = machine.host_levels == 5   ? kRow5Level
                       : machine.host_levels == 4 ? kRow4Level
                                                  : kRowPae;
  NestedFormat f;
  f.ept = false;
  f.flags = true;
  f.nxe = machine.tdp & tdp::kNxe;
  const EntryRules rules = make_entry_rules(kModes[row], host, f.nxe);
  f.levels = rules.mode->levels;
  f.plain_entries = rules.mode->plain_entries;
  f.leaf_levels = rules.mode->leaf_levels;
  f.address_bits = row == kRowPae ? 32 : static_cast<std::uint8_t>(12 + 9 * f.levels);
  f.present = pte::kP;
  f.accessed = pte::kA;
  f.dirty = pte::kD;
  for (unsigned level = 1; level <= f.levels; ++level) {
    f.table[level] = rules.table[level];
    f.leaf[level] = rules.leaf[level];
  }
  return f;
}

// SDM 3C §"Checks on VMX Controls", and for INVEPT its own page.
const char* eptp_fault(const Machine& machine, std::uint64_t eptp) {
  const std::uint64_t type = eptp & eptp::kTypeMask;
  if (type != 0 && type != eptp::kWb) return "memory type neither 0 nor 6";
  const std::uint64_t levels = eptp & eptp::kLevelsMask;
  const bool walk =
      levels == eptp::k4Level || (levels == eptp::k5Level && machine.host_levels == 5);
  if (!walk) return "page-walk length";
  if ((eptp & eptp::kAd) && !(machine.tdp & tdp::kAd)) return "A and D flags not supported";
  if (eptp & span(7, 11)) return "reserved bits";
  if (eptp >> machine.host_maxphyaddr) return "address beyond MAXPHYADDR";
  return nullptr;
}

std::string_view nested_table(const NestedFormat& format, unsigned level, bool leaf) {
  if (!format.ept) {
    const unsigned row = format.levels == 5   ? kRow5Level
                         : format.levels == 4 ? kRow4Level
                                              : kRowPae;
    return format_table(kModes[row], level, leaf);
  }
  switch (level) {
    case 1:
      return "Format of an EPT Page-Table Entry that Maps a 4-KByte Page";
    case 2:
      return leaf ? "Format of an EPT Page-Directory Entry that Maps a 2-MByte Page"
                  : "Format of an EPT Page-Directory Entry that References an EPT Page Table";
    case 3:
      return leaf ? "Format of an EPT Page-Directory-Pointer-Table Entry that Maps a 1-GByte Page"
                  : "Format of an EPT Page-Directory-Pointer-Table Entry that References an EPT "
                    "Page Directory";
    case 4:
      return "Format of an EPT PML4 Entry that References an EPT Page-Directory-Pointer Table";
    default:
      return "Format of an EPT PML5 Entry that References an EPT PML4 Table";
  }
}

}  // namespace twinwalk::oracle
