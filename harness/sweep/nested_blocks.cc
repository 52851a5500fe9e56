// The sweep of two dimensions: the path of one guest-physical page, which holds the data or a table
// of the guest, through EPT or NPT.

#include <deque>
#include <string>

#include "harness/sweep/layout.h"
#include "harness/sweep/sweep_case.h"

namespace twinwalk::sweep {
namespace {

constexpr std::uint64_t kAll = ~std::uint64_t{0};
constexpr std::uint64_t kRwx = ept::kR | ept::kW | ept::kX;
constexpr std::string_view kLevelNames[] = {"nested leaf",  "nested pte",   "nested pde",
                                            "nested pdpte", "nested pml4e", "nested pml5e"};

AxisValue nested_value(std::string_view label, unsigned level, std::uint64_t clear,
                       std::uint64_t set) {
  return {label, {Part::kNested, static_cast<std::uint8_t>(level), clear, set}};
}

Axis off_on(std::string_view name, Scope scope, Part part, std::uint64_t mask) {
  return {name, scope, {{"0", {part, 0, mask, 0}}, {"1", {part, 0, 0, mask}}}};
}

Axis kind_axis() {
  Axis axis{"kind", Scope::kAccess, {}};
  for (const AccessKind k :
       {AccessKind::kRead, AccessKind::kWrite, AccessKind::kFetch, AccessKind::kRmw})
    axis.values.push_back({name_of(k), {Part::kKind, 0, kAll, static_cast<std::uint64_t>(k)}});
  return axis;
}

Axis cpl_axis() {
  return {
      "cpl", Scope::kAccess, {{"0", {Part::kCpl, 0, kAll, 0}}, {"3", {Part::kCpl, 0, kAll, 3}}}};
}

Axis leaf_axis() {
  return {"nested leaf level",
          Scope::kProgram,
          {{"4K", {Part::kNestedLeafLevel, 0, kAll, 1}},
           {"2M", {Part::kNestedLeafLevel, 0, kAll, 2}},
           {"1G", {Part::kNestedLeafLevel, 0, kAll, 3}}}};
}

// What the page under test holds: the data, or a table of the guest below its root.
Axis target_axis(Mode mode) {
  Axis axis{"target", Scope::kProgram, {{"data", {Part::kTarget, 0, kAll, 0}}}};
  constexpr std::string_view kLabels[] = {"", "page table", "page directory", "pdpt", "pml4"};
  for (unsigned level = 1; level < levels_of(mode) && level <= 4; ++level)
    axis.values.push_back({kLabels[level], {Part::kTarget, 0, kAll, level}});
  return axis;
}

Axis flags_axis(Nesting nesting) {
  Axis axis{"flags", Scope::kProgram, {{"1", {Part::kFlags, 0, kAll, 1}}}};
  if (nesting == Nesting::kEpt) axis.values.push_back({"0", {Part::kFlags, 0, kAll, 0}});
  return axis;
}

Axis levels_axis(Nesting nesting) {
  Axis axis{"host-levels", Scope::kProgram, {{"4", {Part::kHostLevels, 0, kAll, 4}}}};
  axis.values.push_back({"5", {Part::kHostLevels, 0, kAll, 5}});
  if (nesting == Nesting::kNpt) axis.values.push_back({"3", {Part::kHostLevels, 0, kAll, 3}});
  return axis;
}

Axis rights_axis(Nesting nesting, unsigned level) {
  Axis axis{kLevelNames[level], Scope::kProgram, {}};
  if (nesting == Nesting::kEpt) {
    constexpr std::string_view kLabels[] = {"---", "r--", "-w-", "rw-", "--x", "r-x", "-wx", "rwx"};
    for (unsigned i = 0; i < 8; ++i)
      axis.values.push_back(nested_value(kLabels[i], level, kRwx, i));
  } else {
    constexpr std::string_view kLabels[] = {"-", "w", "u", "w|u", "xd", "w|xd", "u|xd", "w|u|xd"};
    for (unsigned i = 0; i < 8; ++i)
      axis.values.push_back(
          nested_value(kLabels[i], level, pte::kW | pte::kU | pte::kXd,
                       (i & 1 ? pte::kW : 0) | (i & 2 ? pte::kU : 0) | (i & 4 ? pte::kXd : 0)));
  }
  return axis;
}

Block make(Mode mode, Nesting nesting, std::string_view name, std::string_view about) {
  Block b{mode, name, about, {}, false};
  b.nesting = nesting;
  return b;
}

Block rights_block(Mode mode, Nesting nesting) {
  Block b = make(mode, nesting, "nested-rights",
                 "every triple of rights at every level of the second dimension");
  b.axes.push_back(flags_axis(nesting));
  b.axes.push_back(nesting == Nesting::kEpt
                       ? off_on("xo", Scope::kProgram, Part::kTdp, tdp::kExecOnly)
                       : off_on("nxe", Scope::kProgram, Part::kTdp, tdp::kNxe));
  b.axes.push_back(target_axis(mode));
  b.axes.push_back(leaf_axis());
  for (unsigned level = 1; level <= 4; ++level) b.axes.push_back(rights_axis(nesting, level));
  b.axes.push_back(cpl_axis());
  b.axes.push_back(kind_axis());
  return b;
}

// Labels that are made here live as long as the blocks.
std::string_view keep(std::string text) {
  static std::deque<std::string> kept;
  return kept.emplace_back(std::move(text));
}

void add_entry_values(Nesting nesting, unsigned level, Axis& axis) {
  const auto name = [&](std::string_view label) {
    return keep(std::string(kLevelNames[level]) + " " + std::string(label));
  };
  const auto add = [&](std::string_view label, std::uint64_t clear, std::uint64_t set) {
    axis.values.push_back(nested_value(name(label), level, clear, set));
  };
  axis.values.push_back(
      {name("maxphyaddr bit"), {Part::kNested, static_cast<std::uint8_t>(level), 0, 0, true}});
  add("bit 51", 0, bit(51));
  add("bit 52", 0, bit(52));
  add("bit 62", 0, bit(62));
  add("bit 63", 0, bit(63));
  if (nesting == Nesting::kEpt) {
    add("not present", kRwx, bit(51) | bit(63));
    add("-w-", kRwx, ept::kW);
    add("--x", kRwx, ept::kX);
    add("r--", kRwx, ept::kR);
    for (unsigned type = 0; type < 8; ++type)
      add("type " + std::to_string(type), ept::kTypeMask, type << 3);
    add("bit 6", 0, bit(6));
    add("bit 7", 0, bit(7));
    add("bit 10", 0, bit(10));
    add("bit 11", 0, bit(11));
  } else {
    add("not present", pte::kP, bit(51) | bit(63));
    add("read-only", pte::kW, 0);
    add("supervisor", pte::kU, 0);
    add("ps", 0, pte::kPs);
    add("g", 0, pte::kG);
    add("pwt", 0, pte::kPwt);
  }
  if (level == 2 || level == 3) add("bit 12", 0, bit(12));
  if (level == 2 || level == 3) add("bit 13", 0, bit(13));
  if (level == 3) add("bit 29", 0, bit(29));
}

// One entry of the path that is not as usual.
Axis entry_axis(Nesting nesting, std::string_view name) {
  Axis axis{name, Scope::kProgram, {nested_value("as usual", 0, 0, 0)}};
  for (unsigned level = 1; level <= 5; ++level) add_entry_values(nesting, level, axis);
  return axis;
}

Axis data_or_page_table() {
  return {"target",
          Scope::kProgram,
          {{"data", {Part::kTarget, 0, kAll, 0}}, {"page table", {Part::kTarget, 0, kAll, 1}}}};
}

Block entries_block(Mode mode, Nesting nesting) {
  Block b = make(mode, nesting, "nested-entries",
                 "entries that are not present, reserved bits, memory types, sizes that are not "
                 "supported, at one level at a time on every machine");
  b.axes.push_back(levels_axis(nesting));
  b.axes.push_back(flags_axis(nesting));
  if (nesting == Nesting::kEpt)
    b.axes.push_back(off_on("2m", Scope::kProgram, Part::kTdp, tdp::k2M));
  b.axes.push_back(off_on("1g", Scope::kProgram, Part::kTdp, tdp::k1G));
  b.axes.push_back(nesting == Nesting::kNpt
                       ? off_on("nxe", Scope::kProgram, Part::kTdp, tdp::kNxe)
                       : off_on("mbec", Scope::kProgram, Part::kTdp, tdp::kMbec));
  b.axes.push_back({"maxphyaddr",
                    Scope::kProgram,
                    {{"40", {Part::kHostMaxphyaddr, 0, kAll, 40}},
                     {"52", {Part::kHostMaxphyaddr, 0, kAll, 52}}}});
  b.axes.push_back(data_or_page_table());
  b.axes.push_back(leaf_axis());
  b.axes.push_back(entry_axis(nesting, "entry"));
  b.axes.push_back(kind_axis());
  return b;
}

Block pairs_block(Mode mode, Nesting nesting) {
  Block b = make(mode, nesting, "nested-pairs",
                 "the same at two entries of a path at a time: which of them decides");
  b.axes.push_back(flags_axis(nesting));
  b.axes.push_back(data_or_page_table());
  b.axes.push_back(leaf_axis());
  b.axes.push_back(entry_axis(nesting, "first entry"));
  b.axes.push_back(entry_axis(nesting, "second entry"));
  b.axes.push_back(kind_axis());
  return b;
}

Block flags_block(Mode mode, Nesting nesting) {
  Block b = make(mode, nesting, "nested-flags",
                 "A and D of both dimensions as found and as left, for accesses that pass and that "
                 "exit");
  b.rewrite = true;
  b.axes.push_back(flags_axis(nesting));
  b.axes.push_back(target_axis(mode));
  b.axes.push_back(leaf_axis());
  const bool ept = nesting == Nesting::kEpt;
  const std::uint64_t a = ept ? ept::kA : pte::kA, d = ept ? ept::kD : pte::kD;
  for (unsigned level = 1; level <= 4; ++level) {
    Axis axis{kLevelNames[level], Scope::kProgram, {}};
    axis.values.push_back(nested_value("-", level, 0, 0));
    axis.values.push_back(nested_value("a", level, 0, a));
    if (level <= 3) axis.values.push_back(nested_value("d", level, 0, d));
    if (level <= 3) axis.values.push_back(nested_value("a|d", level, 0, a | d));
    b.axes.push_back(axis);
  }
  b.axes.push_back(
      {"nested leaf rights",
       Scope::kProgram,
       {nested_value("all", 0, 0, 0), nested_value("no w", 0, ept ? ept::kW : pte::kW, 0)}});
  if (levels_of(mode) != 0) {
    Axis leaf{"guest leaf", Scope::kProgram, {}};
    leaf.values.push_back({"-", {Part::kEntry, 0, 0, 0}});
    leaf.values.push_back({"a", {Part::kEntry, 0, 0, pte::kA}});
    leaf.values.push_back({"a|d", {Part::kEntry, 0, 0, pte::kA | pte::kD}});
    leaf.values.push_back({"u a", {Part::kEntry, 0, pte::kW, pte::kA}});
    b.axes.push_back(leaf);
    b.axes.push_back({"guest pde",
                      Scope::kProgram,
                      {{"-", {Part::kEntry, 2, 0, 0}}, {"a", {Part::kEntry, 2, 0, pte::kA}}}});
  }
  b.axes.push_back(kind_axis());
  return b;
}

// Both dimensions' rights of the same access.
Block guest_block(Mode mode, Nesting nesting) {
  Block b = make(mode, nesting, "guest-rights",
                 "rights of the guest's leaf by those of the second dimension's, under every "
                 "control bit");
  const bool ept = nesting == Nesting::kEpt;
  b.axes.push_back(flags_axis(nesting));
  if (ept) {
    b.axes.push_back(off_on("mbec", Scope::kProgram, Part::kTdp, tdp::kMbec));
    b.axes.push_back(off_on("adv", Scope::kProgram, Part::kTdp, tdp::kAdvanced));
  }
  b.axes.push_back(
      {"target",
       Scope::kProgram,
       {{"data", {Part::kTarget, 0, kAll, 0}}, {"page table", {Part::kTarget, 0, kAll, 1}}}});
  b.axes.push_back(rights_axis(nesting, 1));
  if (ept) {
    for (unsigned level = 1; level <= 4; ++level) {
      b.axes.push_back({level == 1   ? "nested pte ux"
                        : level == 2 ? "nested pde ux"
                        : level == 3 ? "nested pdpte ux"
                                     : "nested pml4e ux",
                        Scope::kProgram,
                        {nested_value("0", level, 0, 0), nested_value("1", level, 0, ept::kUx)}});
    }
  }
  if (levels_of(mode) != 0) {
    Axis leaf{"guest leaf", Scope::kProgram, {}};
    constexpr std::string_view kLabels[] = {"-", "w", "u", "w|u", "xd", "w|xd", "u|xd", "w|u|xd"};
    for (unsigned i = 0; i < (mode == Mode::k32Bit ? 4u : 8u); ++i) {
      leaf.values.push_back(
          {kLabels[i],
           {Part::kEntry, 0, pte::kW | pte::kU | pte::kXd,
            (i & 1 ? pte::kW : 0) | (i & 2 ? pte::kU : 0) | (i & 4 ? pte::kXd : 0)}});
    }
    leaf.values.push_back({"p=0", {Part::kEntry, 0, pte::kP, 0}});
    if (mode != Mode::k32Bit) leaf.values.push_back({"bit 51", {Part::kEntry, 0, 0, bit(51)}});
    b.axes.push_back(leaf);
  }
  b.axes.push_back(off_on("wp", Scope::kAccess, Part::kCr0, cr0::kWp));
  b.axes.push_back(off_on("smep", Scope::kAccess, Part::kCr4, cr4::kSmep));
  b.axes.push_back(off_on("smap", Scope::kAccess, Part::kCr4, cr4::kSmap));
  if (mode != Mode::kNone && mode != Mode::k32Bit)
    b.axes.push_back(off_on("nxe", Scope::kAccess, Part::kEfer, efer::kNxe));
  b.axes.push_back(cpl_axis());
  b.axes.push_back(kind_axis());
  return b;
}

constexpr Filter kNestedFilters[] = {
    {"no nested entry below the leaf, nor above the root", Scope::kProgram,
     [](const SweepCase& c) {
       Block block;
       block.mode = c.machine.mode;
       block.nesting = c.machine.nested;
       const SweepCase base = base_case(block);
       for (unsigned level = 1; level <= 5; ++level) {
         const bool there = level >= c.nested_leaf_level && level <= nested_levels(c.machine);
         if (!there && c.nested[level] != base.nested[level]) return true;
       }
       return false;
     }},
    {"bits of the frame's address move it away from the page under test", Scope::kProgram,
     [](const SweepCase& c) {
       constexpr std::uint64_t kLow = bit(12) | bit(13) | bit(29);
       for (unsigned level = 1; level <= 5; ++level) {
         const bool address = level != c.nested_leaf_level || level == 1 ||
                              (level == 2 && (c.nested[level] & bit(29)));
         if (address && (c.nested[level] & kLow)) return true;
       }
       return false;
     }},
    {"bits below MAXPHYADDR are address bits", Scope::kProgram,
     [](const SweepCase& c) {
       for (unsigned level = 1; level <= 5; ++level)
         if (c.machine.host_maxphyaddr == 52 && (c.nested[level] & bit(51))) return true;
       return c.machine.maxphyaddr == 52 && (c.entry[1] & bit(51));
     }},
    {"a bit that makes a leaf of an entry above the leaf, or a size that the path does not have",
     Scope::kProgram,
     [](const SweepCase& c) {
       for (unsigned level = 2; level <= 3; ++level) {
         const bool supported =
             level == 2 ? c.machine.nested == Nesting::kNpt || (c.machine.tdp & tdp::k2M)
                        : (c.machine.tdp & tdp::k1G) != 0;
         if (level > c.nested_leaf_level && (c.nested[level] & pte::kPs) && supported) return true;
       }
       return false;
     }},
    {"PDPTEs of NPT with three levels have no rights and map no pages", Scope::kProgram,
     [](const SweepCase& c) {
       if (c.machine.nested != Nesting::kNpt || nested_levels(c.machine) != 3) return false;
       return c.nested_leaf_level == 3;
     }},
    {"with paging off there are no tables of the guest", Scope::kProgram,
     [](const SweepCase& c) { return c.target >= levels_of(c.machine.mode) && c.target != 0; }},
};

}  // namespace

const std::vector<Block>& nested_blocks(Nesting nesting) {
  const auto make_all = [](Nesting n) {
    std::vector<Block> made;
    for (const Mode mode : {Mode::kNone, Mode::k32Bit, Mode::kPae, Mode::k4Level}) {
      made.push_back(rights_block(mode, n));
      made.push_back(entries_block(mode, n));
      made.push_back(pairs_block(mode, n));
      made.push_back(flags_block(mode, n));
      made.push_back(guest_block(mode, n));
    }
    return made;
  };
  static const std::vector<Block> ept = make_all(Nesting::kEpt);
  static const std::vector<Block> npt = make_all(Nesting::kNpt);
  return nesting == Nesting::kEpt ? ept : npt;
}

std::span<const Filter> nested_filters() { return kNestedFilters; }

}  // namespace twinwalk::sweep
