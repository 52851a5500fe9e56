#include "oracle/paging.h"

#include <algorithm>

namespace twinwalk::oracle {
namespace {

// Bits [low, high].
constexpr std::uint64_t span(unsigned low, unsigned high) {
  return low > high ? 0 : (~std::uint64_t{0} >> (63 - high)) & (~std::uint64_t{0} << low);
}

// 32-bit paging has no reserved bits but those of a 4M page's address, of which PSE-36 brings back
// as many as there are physical-address bits, 40 at most.
void fill_32_bit(EntryRules& rules, const Machine& machine) {
  const unsigned m = machine.has(feature::kPse36) ? std::min<unsigned>(40, machine.maxphyaddr) : 32;
  rules.leaf[2] = span(m - 19, 21);
}

void fill_8_byte(EntryRules& rules, const Machine& machine, bool nxe) {
  const PagingMode& mode = *rules.mode;
  // Long mode ignores bits 62:52 (but for keys), PAE reserves them.
  std::uint64_t always = span(machine.maxphyaddr, mode.is_long() ? 51 : 62);
  if (!nxe) always |= pte::kXd;
  for (unsigned level = 1; level <= mode.levels; ++level) {
    rules.table[level] = rules.leaf[level] = always;
    const bool maps_pages = level == 1 || (mode.leaf_levels >> level & 1);
    if (level > 1 && maps_pages) {
      // Low address bits of a large frame; bit 12 is PAT.
      rules.leaf[level] |= span(13, mode.shift(level) - 1);
    }
    if (level == 3 && !machine.has(feature::k1G)) rules.leaf[level] |= pte::kPs;
    if (!maps_pages) rules.table[level] |= pte::kPs;
    if (machine.vendor == Vendor::kAmd && level >= 4) rules.table[level] |= pte::kG;
  }
  if (mode.mode == Mode::kPae) {
    rules.table[3] = span(machine.maxphyaddr, 63) | span(1, 2) | span(5, 8);
  }
}

}  // namespace

EntryRules make_entry_rules(const PagingMode& mode, const Machine& machine, bool nxe) {
  EntryRules rules;
  rules.mode = &mode;
  if (mode.entry_bytes == 4) {
    fill_32_bit(rules, machine);
  } else {
    fill_8_byte(rules, machine, nxe);
  }
  return rules;
}

void RuleBook::reset(const Machine& machine) {
  // Mostly the machine is the one of the trace before.
  if (filled_ && of_.vendor == machine.vendor && of_.maxphyaddr == machine.maxphyaddr &&
      of_.features == machine.features) {
    return;
  }
  for (unsigned row = 0; row < kRows; ++row) {
    for (const bool nxe : {false, true})
      rules_[row][nxe] = make_entry_rules(kModes[row], machine, nxe);
  }
  of_ = machine;
  filled_ = true;
}

std::string_view format_table(const PagingMode& mode, unsigned level, bool leaf) {
  switch (mode.mode) {
    case Mode::kNone:
      return {};
    case Mode::k32Bit:
      if (level == 1) return "Format of a 32-Bit Page-Table Entry that Maps a 4-KByte Page";
      return leaf ? "Format of a 32-Bit Page-Directory Entry that Maps a 4-MByte Page"
                  : "Format of a 32-Bit Page-Directory Entry that References a Page Table";
    case Mode::kPae:
      if (level == 1) return "Format of a PAE Page-Table Entry that Maps a 4-KByte Page";
      if (level == 3) return "Format of a PAE Page-Directory-Pointer-Table Entry (PDPTE)";
      return leaf ? "Format of a PAE Page-Directory Entry that Maps a 2-MByte Page"
                  : "Format of a PAE Page-Directory Entry that References a Page Table";
    case Mode::k4Level:
    case Mode::k5Level:
      break;
  }
  switch (level) {
    case 1:
      return "Format of a Page-Table Entry that Maps a 4-KByte Page";
    case 2:
      return leaf ? "Format of a Page-Directory Entry that Maps a 2-MByte Page"
                  : "Format of a Page-Directory Entry that References a Page Table";
    case 3:
      return leaf ? "Format of a Page-Directory-Pointer-Table Entry (PDPTE) that Maps a 1-GByte "
                    "Page"
                  : "Format of a Page-Directory-Pointer-Table Entry (PDPTE) that References a Page "
                    "Directory";
    case 4:
      return "Format of a PML4 Entry (PML4E) that References a Page-Directory-Pointer Table";
    default:
      return "Format of a PML5 Entry (PML5E) that References a PML4 Table";
  }
}

}  // namespace twinwalk::oracle
