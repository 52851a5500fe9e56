#include "oracle/paging.h"

namespace twinwalk::oracle {
namespace {

// Bits [low, high].
constexpr std::uint64_t span(unsigned low, unsigned high) {
  return low > high ? 0 : (~std::uint64_t{0} >> (63 - high)) & (~std::uint64_t{0} << low);
}

}  // namespace

EntryRules make_entry_rules(const PagingMode& mode, const Machine& machine, bool nxe) {
  EntryRules rules;
  rules.mode = &mode;
  std::uint64_t always = span(machine.maxphyaddr, 51);
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
  return rules;
}

}  // namespace twinwalk::oracle
