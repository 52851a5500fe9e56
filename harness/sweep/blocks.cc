#include "harness/sweep/layout.h"
#include "harness/sweep/sweep_case.h"

namespace twinwalk::sweep {
namespace {

constexpr std::uint64_t kAll = ~std::uint64_t{0};
constexpr std::uint64_t kUsual = pte::kP | pte::kW | pte::kU;

AxisValue entry_value(std::string_view label, unsigned level, std::uint64_t clear,
                      std::uint64_t set) {
  return {label, {Part::kEntry, static_cast<std::uint8_t>(level), clear, set}};
}

// Off and on of one bit of a register or entry.
Axis bit_axis(std::string_view name, Scope scope, Part part, std::uint64_t mask,
              unsigned level = 0) {
  const auto l = static_cast<std::uint8_t>(level);
  return {name, scope, {{"0", {part, l, mask, 0}}, {"1", {part, l, 0, mask}}}};
}

Axis leaf_axis() {
  return {"leaf",
          Scope::kProgram,
          {{"4K", {Part::kLeafLevel, 0, kAll, 1}},
           {"2M", {Part::kLeafLevel, 0, kAll, 2}},
           {"1G", {Part::kLeafLevel, 0, kAll, 3}}}};
}

Axis kind_axis() {
  Axis axis{"kind", Scope::kAccess, {}};
  for (const AccessKind k :
       {AccessKind::kRead, AccessKind::kWrite, AccessKind::kFetch, AccessKind::kRmw}) {
    axis.values.push_back({name_of(k), {Part::kKind, 0, kAll, static_cast<std::uint64_t>(k)}});
  }
  return axis;
}

Axis cpl_axis() {
  return {
      "cpl", Scope::kAccess, {{"0", {Part::kCpl, 0, kAll, 0}}, {"3", {Part::kCpl, 0, kAll, 3}}}};
}

constexpr std::string_view kLevelNames[] = {"", "pte", "pde", "pdpte", "pml4e"};

Block rights_block() {
  Block b{"rights",
          "R/W, U/S and XD at every level under every control bit, key and kind of access",
          {},
          false};
  b.axes.push_back(leaf_axis());
  for (unsigned level = 1; level <= 4; ++level) {
    Axis axis{kLevelNames[level], Scope::kProgram, {}};
    constexpr std::string_view kLabels[] = {"-", "w", "u", "w|u", "xd", "w|xd", "u|xd", "w|u|xd"};
    for (unsigned i = 0; i < 8; ++i) {
      const std::uint64_t set =
          (i & 1 ? pte::kW : 0) | (i & 2 ? pte::kU : 0) | (i & 4 ? pte::kXd : 0);
      axis.values.push_back(entry_value(kLabels[i], level, pte::kW | pte::kU | pte::kXd, set));
    }
    b.axes.push_back(axis);
  }
  b.axes.push_back(bit_axis("wp", Scope::kAccess, Part::kCr0, cr0::kWp));
  b.axes.push_back(bit_axis("smep", Scope::kAccess, Part::kCr4, cr4::kSmep));
  b.axes.push_back(bit_axis("smap", Scope::kAccess, Part::kCr4, cr4::kSmap));
  b.axes.push_back(bit_axis("nxe", Scope::kAccess, Part::kEfer, efer::kNxe));
  b.axes.push_back(bit_axis("pke", Scope::kAccess, Part::kCr4, cr4::kPke));
  b.axes.push_back({"pkru",
                    Scope::kAccess,
                    {{"allow", {Part::kPkru, 0, kAll, 0}},
                     {"ad", {Part::kPkru, 0, kAll, 1u << (2 * kKey)}},
                     {"wd", {Part::kPkru, 0, kAll, 2u << (2 * kKey)}}}});
  b.axes.push_back(cpl_axis());
  b.axes.push_back(bit_axis("ac", Scope::kAccess, Part::kAc, 1));
  b.axes.push_back(bit_axis("implicit", Scope::kAccess, Part::kImplicit, 1));
  b.axes.push_back(kind_axis());
  return b;
}

Block reserved_block() {
  Block b{"reserved",
          "not-present entries and every reserved bit at every level, by vendor, MAXPHYADDR and "
          "features",
          {},
          false};
  b.axes.push_back(
      {"vendor",
       Scope::kProgram,
       {{"intel", {Part::kVendor, 0, kAll, static_cast<std::uint64_t>(Vendor::kIntel)}},
        {"amd", {Part::kVendor, 0, kAll, static_cast<std::uint64_t>(Vendor::kAmd)}}}});
  b.axes.push_back(bit_axis("1g", Scope::kProgram, Part::kFeatures, feature::k1G));
  b.axes.push_back({"maxphyaddr",
                    Scope::kProgram,
                    {{"36", {Part::kMaxphyaddr, 0, kAll, 36}},
                     {"40", {Part::kMaxphyaddr, 0, kAll, 40}},
                     {"52", {Part::kMaxphyaddr, 0, kAll, 52}}}});
  b.axes.push_back(leaf_axis());
  for (unsigned level = 1; level <= 4; ++level) {
    const auto l = static_cast<std::uint8_t>(level);
    Axis axis{kLevelNames[level], Scope::kProgram, {}};
    axis.values.push_back(entry_value("ok", level, 0, 0));
    axis.values.push_back(entry_value("p=0", level, pte::kP, 0));
    axis.values.push_back(entry_value("p=0 and reserved", level, pte::kP, bit(51) | pte::kXd));
    axis.values.push_back({"maxphyaddr bit", {Part::kEntry, l, 0, 0, true}});
    axis.values.push_back(entry_value("bit 51", level, 0, bit(51)));
    axis.values.push_back(entry_value("bit 52", level, 0, bit(52)));
    axis.values.push_back(entry_value("xd", level, 0, pte::kXd));
    axis.values.push_back(entry_value("bit 8", level, 0, pte::kG));
    if (level == 4) axis.values.push_back(entry_value("ps", level, 0, pte::kPs));
    if (level < 4) axis.values.push_back(entry_value("bit 13", level, 0, bit(13)));
    b.axes.push_back(axis);
  }
  b.axes.push_back(bit_axis("nxe", Scope::kAccess, Part::kEfer, efer::kNxe));
  b.axes.push_back(cpl_axis());
  b.axes.push_back(kind_axis());
  return b;
}

Block accessed_dirty_block() {
  Block b{"accessed-dirty",
          "A and D as found and as left, at every level, for accesses that pass and that fault",
          {},
          true};
  b.axes.push_back(leaf_axis());
  for (unsigned level = 1; level <= 4; ++level) {
    Axis axis{kLevelNames[level], Scope::kProgram, {}};
    axis.values.push_back(entry_value("-", level, 0, 0));
    axis.values.push_back(entry_value("a", level, 0, pte::kA));
    axis.values.push_back(entry_value("d", level, 0, pte::kD));
    axis.values.push_back(entry_value("a|d", level, 0, pte::kA | pte::kD));
    axis.values.push_back(entry_value("p=0", level, pte::kP, pte::kA));
    b.axes.push_back(axis);
  }
  b.axes.push_back({"leaf rights",
                    Scope::kProgram,
                    {entry_value("w|u", 0, 0, 0), entry_value("u", 0, pte::kW, 0),
                     entry_value("w", 0, pte::kU, 0)}});
  b.axes.push_back(bit_axis("wp", Scope::kAccess, Part::kCr0, cr0::kWp));
  b.axes.push_back(cpl_axis());
  b.axes.push_back(kind_axis());
  return b;
}

Block address_block() {
  Block b{"addresses",
          "canonical edges, offsets, sizes, and accesses that cross into a page with other rights",
          {},
          true};
  b.axes.push_back(leaf_axis());
  b.axes.push_back({"next page",
                    Scope::kProgram,
                    {{"p|w|u", {Part::kSecondLeaf, 0, kAll, kUsual}},
                     {"p|u", {Part::kSecondLeaf, 0, kAll, pte::kP | pte::kU}},
                     {"p|w", {Part::kSecondLeaf, 0, kAll, pte::kP | pte::kW}},
                     {"p=0", {Part::kSecondLeaf, 0, kAll, pte::kW | pte::kU}}}});
  b.axes.push_back({"first page",
                    Scope::kProgram,
                    {entry_value("w|u", 0, 0, 0), entry_value("u", 0, pte::kW, 0),
                     entry_value("p=0", 0, pte::kP, 0)}});
  b.axes.push_back({"gva",
                    Scope::kAccess,
                    {{"low half", {Part::kGva, 0, kAll, kLowGva}},
                     {"high half", {Part::kGva, 0, kAll, kHighGva}},
                     {"last of the low half", {Part::kGva, 0, kAll, 0x0000'7fff'ffff'f000}},
                     {"first non-canonical", {Part::kGva, 0, kAll, 0x0000'8000'0000'0000}},
                     {"last non-canonical", {Part::kGva, 0, kAll, 0xffff'7fff'ffff'f000}},
                     {"first of the high half", {Part::kGva, 0, kAll, 0xffff'8000'0000'0000}}}});
  Axis offsets{"offset", Scope::kAccess, {}};
  constexpr std::string_view kLabels[] = {"0", "4", "ff8", "ff9", "ffc", "ffe", "fff"};
  constexpr std::uint64_t kOffsets[] = {0, 4, 0xff8, 0xff9, 0xffc, 0xffe, 0xfff};
  for (unsigned i = 0; i < 7; ++i)
    offsets.values.push_back({kLabels[i], {Part::kGvaOffset, 0, 0xfff, kOffsets[i]}});
  b.axes.push_back(offsets);
  Axis sizes{"size", Scope::kAccess, {}};
  constexpr std::string_view kSizes[] = {"1", "2", "4", "8"};
  for (unsigned i = 0; i < 4; ++i)
    sizes.values.push_back({kSizes[i], {Part::kSize, 0, kAll, 1u << i}});
  b.axes.push_back(sizes);
  b.axes.push_back(cpl_axis());
  b.axes.push_back(kind_axis());
  return b;
}

constexpr Filter kFilters[] = {
    {"no entry below the leaf", Scope::kProgram,
     [](const SweepCase& c) {
       for (unsigned level = 1; level < c.leaf_level; ++level) {
         if (c.entry[level] != base_case().entry[level]) return true;
       }
       return false;
     }},
    {"bit 13 is an address bit of entries that refer to tables and of 4K pages", Scope::kProgram,
     [](const SweepCase& c) {
       for (unsigned level = 1; level <= 4; ++level) {
         if ((c.entry[level] & bit(13)) && (level != c.leaf_level || level == 1)) return true;
       }
       return false;
     }},
    {"with MAXPHYADDR 52 no address bit is reserved", Scope::kProgram,
     [](const SweepCase& c) {
       for (unsigned level = 1; level <= 4; ++level) {
         if (c.machine.maxphyaddr == 52 && (c.entry[level] & bit(51)) && (c.entry[level] & pte::kP))
           return true;
       }
       return false;
     }},
    {"the next page is looked at only by accesses that cross, through a 4K leaf of its own",
     Scope::kProgram,
     [](const SweepCase& c) {
       return c.leaf_level != 1 && c.second_leaf != base_case().second_leaf;
     }},
    {"there is no implicit fetch", Scope::kAccess,
     [](const SweepCase& c) { return c.implicit && c.kind == AccessKind::kFetch; }},
    {"WRPKRU needs CR4.PKE", Scope::kAccess,
     [](const SweepCase& c) { return c.registers.pkru != 0 && !(c.registers.cr4 & cr4::kPke); }},
    {"a fetch reads the aligned word: size says nothing", Scope::kAccess,
     [](const SweepCase& c) { return c.kind == AccessKind::kFetch && c.size != 8; }},
};

}  // namespace

SweepCase base_case() {
  SweepCase c;
  c.registers = initial_registers(c.machine);
  for (unsigned level = 1; level <= 4; ++level) c.entry[level] = kUsual;
  c.second_leaf = kUsual;
  c.gva = kHighGva;
  return c;
}

void apply(const Change& ch, SweepCase& c) {
  const auto put = [&ch](auto& field) {
    using Field = std::remove_reference_t<decltype(field)>;
    field = static_cast<Field>((static_cast<std::uint64_t>(field) & ~ch.clear) | ch.set);
  };
  switch (ch.part) {
    case Part::kEntry: {
      std::uint64_t& entry =
          c.entry[ch.level == 0 ? c.leaf_level : ch.level];  // 0: the leaf, whichever it is
      put(entry);
      if (ch.top_reserved) entry |= bit(c.machine.maxphyaddr);
      return;
    }
    case Part::kSecondLeaf:
      return put(c.second_leaf);
    case Part::kLeafLevel:
      return put(c.leaf_level);
    case Part::kCr0:
      return put(c.registers.cr0);
    case Part::kCr4:
      return put(c.registers.cr4);
    case Part::kEfer:
      return put(c.registers.efer);
    case Part::kPkru:
      return put(c.registers.pkru);
    case Part::kCpl:
      return put(c.registers.cpl);
    case Part::kAc:
      c.registers.ac = ch.set != 0;
      return;
    case Part::kImplicit:
      c.implicit = ch.set != 0;
      return;
    case Part::kKind:
      c.kind = static_cast<AccessKind>(ch.set);
      return;
    case Part::kSize:
      return put(c.size);
    case Part::kGva:
      return put(c.gva);
    case Part::kGvaOffset:
      return put(c.gva);
    case Part::kVendor:
      c.machine.vendor = static_cast<Vendor>(ch.set);
      return;
    case Part::kFeatures:
      return put(c.machine.features);
    case Part::kMaxphyaddr:
      return put(c.machine.maxphyaddr);
  }
}

const std::vector<Block>& blocks() {
  static const std::vector<Block> all = {rights_block(), reserved_block(), accessed_dirty_block(),
                                         address_block()};
  return all;
}

std::span<const Filter> filters() { return kFilters; }

}  // namespace twinwalk::sweep
