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

Axis leaf_axis(Mode mode) {
  Axis axis{"leaf", Scope::kProgram, {{"4K", {Part::kLeafLevel, 0, kAll, 1}}}};
  axis.values.push_back({mode == Mode::k32Bit ? "4M" : "2M", {Part::kLeafLevel, 0, kAll, 2}});
  if (is_long(mode)) axis.values.push_back({"1G", {Part::kLeafLevel, 0, kAll, 3}});
  return axis;
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

constexpr std::string_view kLevelNames[] = {"", "pte", "pde", "pdpte", "pml4e", "pml5e"};

bool is_pdpte_of_pae(Mode mode, unsigned level) { return mode == Mode::kPae && level == 3; }

// R/W, U/S and, where there is one, XD of the entry at `level`. PDPTEs of PAE have no rights.
Axis entry_rights_axis(Mode mode, unsigned level) {
  Axis axis{kLevelNames[level], Scope::kProgram, {}};
  constexpr std::string_view kLabels[] = {"-", "w", "u", "w|u", "xd", "w|xd", "u|xd", "w|u|xd"};
  for (unsigned i = 0; i < (mode == Mode::k32Bit ? 4 : 8); ++i) {
    const std::uint64_t set =
        (i & 1 ? pte::kW : 0) | (i & 2 ? pte::kU : 0) | (i & 4 ? pte::kXd : 0);
    axis.values.push_back(entry_value(kLabels[i], level, pte::kW | pte::kU | pte::kXd, set));
  }
  return axis;
}

Block rights_block(Mode mode) {
  Block b{mode,
          "rights",
          mode == Mode::kNone
              ? "control bits, keys and kinds of access, none of which count with paging off"
              : "R/W, U/S and XD at every level under every control bit, key and kind of access",
          {},
          false};
  if (mode != Mode::kNone) b.axes.push_back(leaf_axis(mode));
  for (unsigned level = 1; level <= levels_of(mode); ++level) {
    if (!is_pdpte_of_pae(mode, level)) b.axes.push_back(entry_rights_axis(mode, level));
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

// Entries that are not present, and each bit that is reserved somewhere.
Axis reserved_entry_axis(Mode mode, unsigned level) {
  Axis axis{kLevelNames[level], Scope::kProgram, {}};
  const auto add = [&](std::string_view label, std::uint64_t clear, std::uint64_t set) {
    axis.values.push_back(entry_value(label, level, clear, set));
  };
  add("ok", 0, 0);
  add("p=0", pte::kP, 0);
  if (mode == Mode::k32Bit) {
    add("bit 8", 0, pte::kG);
    if (level == 1) return axis;
    // Of a 4M page: its frame's bits 39:32, and bit 21.
    constexpr std::string_view kLabels[] = {"bit 13", "bit 16", "bit 17",
                                            "bit 18", "bit 20", "bit 21"};
    constexpr unsigned kBits[] = {13, 16, 17, 18, 20, 21};
    for (unsigned i = 0; i < std::size(kBits); ++i) add(kLabels[i], 0, bit(kBits[i]));
    add("p=0 and bit 21", pte::kP, bit(21));
    return axis;
  }
  add("p=0 and reserved", pte::kP, bit(51) | pte::kXd);
  axis.values.push_back(
      {"maxphyaddr bit", {Part::kEntry, static_cast<std::uint8_t>(level), 0, 0, true}});
  add("bit 51", 0, bit(51));
  add("bit 52", 0, bit(52));
  add("xd", 0, pte::kXd);
  add("bit 8", 0, pte::kG);
  if (mode == Mode::kPae) add("bit 62", 0, bit(62));
  if (is_pdpte_of_pae(mode, level)) {
    constexpr std::string_view kLabels[] = {"w", "u", "a", "d", "ps", "pwt", "bit 9"};
    constexpr std::uint64_t kBits[] = {pte::kW,  pte::kU,   pte::kA, pte::kD,
                                       pte::kPs, pte::kPwt, bit(9)};
    for (unsigned i = 0; i < std::size(kBits); ++i) add(kLabels[i], 0, kBits[i]);
    return axis;
  }
  if (level >= 4) add("ps", 0, pte::kPs);
  if (level < 4) add("bit 13", 0, bit(13));
  return axis;
}

Block reserved_block(Mode mode) {
  Block b{mode,
          "reserved",
          "not-present entries and every reserved bit at every level, by vendor, MAXPHYADDR and "
          "features",
          {},
          false};
  b.axes.push_back(
      {"vendor",
       Scope::kProgram,
       {{"intel", {Part::kVendor, 0, kAll, static_cast<std::uint64_t>(Vendor::kIntel)}},
        {"amd", {Part::kVendor, 0, kAll, static_cast<std::uint64_t>(Vendor::kAmd)}}}});
  if (is_long(mode))
    b.axes.push_back(bit_axis("1g", Scope::kProgram, Part::kFeatures, feature::k1G));
  if (mode == Mode::k32Bit)
    b.axes.push_back(bit_axis("pse36", Scope::kProgram, Part::kFeatures, feature::kPse36));
  b.axes.push_back({"maxphyaddr",
                    Scope::kProgram,
                    {{"36", {Part::kMaxphyaddr, 0, kAll, 36}},
                     {"40", {Part::kMaxphyaddr, 0, kAll, 40}},
                     {"52", {Part::kMaxphyaddr, 0, kAll, 52}}}});
  b.axes.push_back(leaf_axis(mode));
  for (unsigned level = 1; level <= levels_of(mode); ++level)
    b.axes.push_back(reserved_entry_axis(mode, level));
  if (mode == Mode::k32Bit)
    b.axes.push_back(bit_axis("pse", Scope::kAccess, Part::kCr4, cr4::kPse));
  b.axes.push_back(bit_axis("nxe", Scope::kAccess, Part::kEfer, efer::kNxe));
  b.axes.push_back(cpl_axis());
  b.axes.push_back(kind_axis());
  return b;
}

Block accessed_dirty_block(Mode mode) {
  Block b{mode,
          "accessed-dirty",
          "A and D as found and as left, at every level, for accesses that pass and that fault",
          {},
          true};
  b.axes.push_back(leaf_axis(mode));
  for (unsigned level = 1; level <= levels_of(mode); ++level) {
    Axis axis{kLevelNames[level], Scope::kProgram, {}};
    axis.values.push_back(entry_value("-", level, 0, 0));
    if (!is_pdpte_of_pae(mode, level)) {
      axis.values.push_back(entry_value("a", level, 0, pte::kA));
      axis.values.push_back(entry_value("d", level, 0, pte::kD));
      axis.values.push_back(entry_value("a|d", level, 0, pte::kA | pte::kD));
    }
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

// The edges of a mode's linear addresses.
Axis gva_axis(Mode mode) {
  Axis axis{"gva", Scope::kAccess, {}};
  const auto add = [&axis](std::string_view label, std::uint64_t gva) {
    axis.values.push_back({label, {Part::kGva, 0, kAll, gva}});
  };
  if (mode == Mode::kNone) {
    add("memory", low_gva(mode));
    add("last of memory", (std::uint64_t{64} << 20) - 0x1000);
    add("behind memory", std::uint64_t{64} << 20);
    add("last of all", 0xffff'f000);
    add("above 4G", std::uint64_t{1} << 32 | low_gva(mode));
    return axis;
  }
  add("low half", low_gva(mode));
  add("high half", high_gva(mode));
  switch (mode) {
    case Mode::k4Level:
      add("last of the low half", 0x0000'7fff'ffff'f000);
      add("first non-canonical", 0x0000'8000'0000'0000);
      add("last non-canonical", 0xffff'7fff'ffff'f000);
      add("first of the high half", 0xffff'8000'0000'0000);
      break;
    case Mode::k5Level:
      add("last of the low half", 0x00ff'ffff'ffff'f000);
      add("first non-canonical", 0x0100'0000'0000'0000);
      add("last non-canonical", 0xfeff'ffff'ffff'f000);
      add("first of the high half", 0xff00'0000'0000'0000);
      add("not canonical to 48 bits", 0x0000'8000'0000'0000);
      break;
    default:
      add("first of all", 0);
      add("last of all", 0xffff'f000);
      add("last of the first gigabyte", 0x3fff'f000);
      add("above 4G", std::uint64_t{0xffff'8001} << 32 | high_gva(mode));
      break;
  }
  return axis;
}

Block address_block(Mode mode) {
  Block b{mode,
          "addresses",
          "edges of the linear addresses, offsets, sizes, and accesses that cross into a page with "
          "other rights; each depth of the hardware's tables",
          {},
          true};
  b.axes.push_back({"host-levels",
                    Scope::kProgram,
                    {{"3", {Part::kHostLevels, 0, kAll, 3}},
                     {"4", {Part::kHostLevels, 0, kAll, 4}},
                     {"5", {Part::kHostLevels, 0, kAll, 5}}}});
  if (mode != Mode::kNone) {
    b.axes.push_back(leaf_axis(mode));
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
  }
  b.axes.push_back(gva_axis(mode));
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

// Low bits of a large frame's address field; address bits of every other entry.
constexpr std::uint64_t kLargeFrameBits = 0x3f'e000;

constexpr Filter kFilters[] = {
    {"no entry below the leaf", Scope::kProgram,
     [](const SweepCase& c) {
       for (unsigned level = 1; level < c.leaf_level; ++level) {
         if (c.entry[level] != base_case(c.machine.mode).entry[level]) return true;
       }
       return false;
     }},
    {"bits 21:13 are address bits of entries that refer to tables and of 4K pages", Scope::kProgram,
     [](const SweepCase& c) {
       for (unsigned level = 1; level <= levels_of(c.machine.mode); ++level) {
         if ((c.entry[level] & kLargeFrameBits) && (level != c.leaf_level || level == 1))
           return true;
       }
       return false;
     }},
    {"with MAXPHYADDR 52 no address bit is reserved", Scope::kProgram,
     [](const SweepCase& c) {
       for (unsigned level = 1; level <= levels_of(c.machine.mode); ++level) {
         if (c.machine.maxphyaddr == 52 && (c.entry[level] & bit(51)) && (c.entry[level] & pte::kP))
           return true;
       }
       return false;
     }},
    {"the next page is looked at only by accesses that cross, through a 4K leaf of its own",
     Scope::kProgram,
     [](const SweepCase& c) {
       return c.leaf_level != 1 && c.second_leaf != base_case(c.machine.mode).second_leaf;
     }},
    {"there is no implicit fetch", Scope::kAccess,
     [](const SweepCase& c) { return c.implicit && c.kind == AccessKind::kFetch; }},
    {"WRPKRU needs CR4.PKE", Scope::kAccess,
     [](const SweepCase& c) { return c.registers.pkru != 0 && !(c.registers.cr4 & cr4::kPke); }},
    {"a fetch reads the aligned word: size says nothing", Scope::kAccess,
     [](const SweepCase& c) { return c.kind == AccessKind::kFetch && c.size != 8; }},
};

}  // namespace

unsigned levels_of(Mode mode) {
  switch (mode) {
    case Mode::kNone:
      return 0;
    case Mode::k32Bit:
      return 2;
    case Mode::kPae:
      return 3;
    case Mode::k4Level:
      return 4;
    case Mode::k5Level:
      return 5;
  }
  return 0;
}

unsigned nested_levels(const Machine& machine) {
  return machine.nested == Nesting::kEpt && machine.host_levels < 4 ? 4 : machine.host_levels;
}

SweepCase base_case(const Block& block) {
  SweepCase c = base_case(block.mode);
  if (block.nesting == Nesting::kNone) return c;
  const bool ept = block.nesting == Nesting::kEpt;
  c.machine.core = Dimension::kBare;
  c.machine.nested = block.nesting;
  c.machine.host_levels = 4;
  c.machine.host_maxphyaddr = c.machine.maxphyaddr;
  if (!ept) c.machine.vendor = Vendor::kAmd;
  for (unsigned level = 1; level <= 5; ++level)
    c.nested[level] = !ept         ? kUsual
                      : level == 1 ? ept::kR | ept::kW | ept::kX | ept::kWb
                                   : ept::kR | ept::kW | ept::kX;
  return c;
}

SweepCase base_case(Mode mode) {
  SweepCase c;
  c.machine.mode = mode;
  if (mode == Mode::k5Level) c.machine.features |= feature::kLa57;
  c.registers = initial_registers(c.machine);
  for (unsigned level = 1; level <= levels_of(mode); ++level)
    c.entry[level] = is_pdpte_of_pae(mode, level) ? pte::kP : kUsual;
  c.second_leaf = kUsual;
  c.gva = high_gva(mode);
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
    case Part::kHostLevels:
      return put(c.machine.host_levels);
    case Part::kNested: {
      std::uint64_t& entry = c.nested[ch.level == 0 ? c.nested_leaf_level : ch.level];
      put(entry);
      if (ch.top_reserved) entry |= bit(c.machine.host_maxphyaddr);
      return;
    }
    case Part::kNestedLeafLevel:
      put(c.nested_leaf_level);
      // A leaf has a memory type.
      if (c.machine.nested == Nesting::kEpt) c.nested[c.nested_leaf_level] |= ept::kWb;
      return;
    case Part::kTarget:
      return put(c.target);
    case Part::kFlags:
      c.flags = ch.set != 0;
      return;
    case Part::kTdp:
      return put(c.machine.tdp);
    case Part::kHostMaxphyaddr:
      put(c.machine.maxphyaddr);
      return put(c.machine.host_maxphyaddr);
  }
}

const std::vector<Block>& blocks(Nesting nesting) {
  if (nesting != Nesting::kNone) return nested_blocks(nesting);
  static const std::vector<Block> all = [] {
    std::vector<Block> made;
    for (const Mode mode : {Mode::kNone, Mode::k32Bit, Mode::kPae, Mode::k4Level, Mode::k5Level}) {
      made.push_back(rights_block(mode));
      if (mode != Mode::kNone) {
        made.push_back(reserved_block(mode));
        made.push_back(accessed_dirty_block(mode));
      }
      made.push_back(address_block(mode));
    }
    return made;
  }();
  return all;
}

std::span<const Filter> filters(Nesting nesting) {
  return nesting == Nesting::kNone ? std::span<const Filter>(kFilters) : nested_filters();
}

}  // namespace twinwalk::sweep
