#include <fmt/format.h>

#include "kvm_runner/suite/suite.h"

namespace twinwalk::suite {
namespace {

constexpr std::uint64_t kGva = 0x4000'0000;  // where most rows have their page
constexpr std::uint64_t kSpareTable = 0x11'0000;

}  // namespace

Cases not_present(const Paging& p) {
  Cases cases;
  for (unsigned level = 1; level <= p.levels; ++level) {
    add_both_rings(cases, p, fmt::format("level-{}", level),
                   "map gva=0x40000000 gpa=0x5000\n" + p.edit(level, kGva, "0x0") +
                       "access read gva=0x40000000 cpl=$\naccess write gva=0x40000008 cpl=$\n"
                       "access fetch gva=0x40000010 cpl=$\n");
  }
  return cases;
}

namespace {

// Bits beyond MAXPHYADDR (40, 45, 51), and outside IA-32e mode those above them.
std::vector<const char*> bits_of_no_address(const Paging& p) {
  if (p.entry_bytes == 4) return {};
  std::vector<const char*> bits = {"0x10000000000", "0x200000000000", "0x8000000000000"};
  if (!p.long_mode) bits.insert(bits.end(), {"0x10000000000000", "0x4000000000000000"});
  return bits;
}

void add_large_reserved(Cases& cases, const Paging& p) {
  const bool legacy = p.entry_bytes == 4;
  for (const char* low : {legacy ? "0x200000" : "0x2000", "0x100000"}) {
    add_both_rings(
        cases, p, fmt::format("{}-{}", p.large, low),
        fmt::format("map gva=0x40000000 gpa=0x800000 size=2M pte=p|w|u|{}\n"
                    "access read gva=0x40000000 cpl=$\naccess write gva=0x40000000 cpl=$\n",
                    low));
  }
  add_both_rings(cases, p, fmt::format("{}-pat-is-not-reserved", p.large),
                 "map gva=0x40000000 gpa=0x800000 size=2M pte=p|w|u|0x1000\naccess read "
                 "gva=0x40000000 cpl=$\n");
  if (!legacy) return;
  add_both_rings(cases, p, "4m-without-pse36",
                 "map gva=0x40000000 gpa=0x800000 size=2M pte=p|w|u|0x2000\n"
                 "access read gva=0x40000000 cpl=$\n",
                 "features=nx|pge|pse|pae");
  add_both_rings(
      cases, p, "pse-off-and-ps-means-nothing",
      "map gva=0x40000000 gpa=0x800000 size=2M pte=p|w|u|0x200000\nmov cr4=0\n"
      "access read gva=0x40000000 cpl=$\nmov cr4=pse\naccess read gva=0x40000000 cpl=$\n");
}

}  // namespace

Cases reserved_bits(const Paging& p) {
  Cases cases;
  const std::string use =
      "access read gva=0x40000000 cpl=$\naccess write gva=0x40000000 cpl=$\n"
      "access fetch gva=0x40000000 cpl=$\n";
  const unsigned top = p.mode == Mode::kPae ? 2 : p.levels;  // PDPTEs: a row of their own
  for (unsigned level = 1; level <= top; ++level) {
    for (const char* bit : bits_of_no_address(p)) {
      const std::string text =
          level == 1
              ? fmt::format("map gva=0x40000000 gpa=0x5000 pte=p|w|u|{}\n", bit)
              : "map gva=0x40000000 gpa=0x5000\n" +
                    p.edit(level, kGva, fmt::format("{:#x}|{}|p|w|u", p.table(level - 1), bit));
      add_both_rings(cases, p, fmt::format("level-{}-{}", level, bit), text + use);
    }
  }
  for (unsigned level = 4; level <= p.levels; ++level) {
    add_both_rings(cases, p, level == 4 ? "pml4e-ps" : "pml5e-ps",
                   "map gva=0x40000000 gpa=0x5000\n" +
                       p.edit(level, kGva, Paging::entry(p.table(level - 1), "p|w|u|ps")) +
                       "access read gva=0x40000000 cpl=$\naccess write gva=0x40000000 cpl=$\n");
  }
  add_large_reserved(cases, p);
  add_both_rings(cases, p, "not-present-hides-reserved",
                 p.entry_bytes == 8
                     ? "map gva=0x40000000 gpa=0x5000 pte=0x8000000000000\naccess read "
                       "gva=0x40000000 cpl=$\n"
                     : "map gva=0x40000000 gpa=0x800000 size=2M pte=0x200000\naccess read "
                       "gva=0x40000000 cpl=$\n");
  return cases;
}

Cases accessed_dirty(const Paging& p) {
  Cases cases;
  add_both_rings(cases, p, "set",
                 "map gva=0x40000000 gpa=0x5000\naccess read gva=0x40000000 cpl=$\n"
                 "access write gva=0x40000000 cpl=$\naccess read gva=0x40000000 cpl=$\n");
  add_both_rings(cases, p, "cleared-and-invalidated",
                 "map gva=0x40000000 gpa=0x5000\naccess write gva=0x40000000 cpl=$\n" +
                     p.edit(1, kGva, "0x5000|p|w|u") +
                     "invlpg gva=0x40000000\n"
                     "access read gva=0x40000000 cpl=$\naccess write gva=0x40000000 cpl=$\n");
  add_both_rings(
      cases, p, "dirty-from-the-start",
      "map gva=0x40000000 gpa=0x5000 pte=p|w|u|a|d\naccess write gva=0x40000000 cpl=$\n");
  add_both_rings(cases, p, "no-dirty-on-fault",
                 "map gva=0x40000000 gpa=0x5000 pte=p|u\naccess write gva=0x40000000 cpl=$\n"
                 "access read gva=0x40000000 cpl=$\n");
  add_both_rings(cases, p, "large-page",
                 "map gva=0x40000000 gpa=0x800000 size=2M\naccess read gva=0x40001000 cpl=$\n"
                 "access write gva=0x40123000 cpl=$\n");
  return cases;
}

Cases large_pages(const Paging& p) {
  Cases cases;
  add_both_rings(cases, p, "offsets",
                 "map gva=0x40000000 gpa=0x800000 size=2M\naccess read gva=0x40000000 cpl=$\n"
                 "access write gva=0x40023458 cpl=$\naccess rmw gva=0x401ff004 size=4 cpl=$\n"
                 "access fetch gva=0x40100010 cpl=$\n");
  add_both_rings(cases, p, "split-by-the-guest",
                 "map gva=0x40000000 gpa=0x800000 size=2M\naccess write gva=0x40003000 cpl=$\n" +
                     p.edit(1, kGva + 0x3000, "0x9000|p|w|u") +
                     p.edit(2, kGva, Paging::entry(p.table(1))) +
                     "invlpg gva=0x40003000\naccess read gva=0x40003000 cpl=$\naccess read "
                     "gva=0x40004000 cpl=$\n");
  add_both_rings(cases, p, "tables-inside",
                 "map gva=0x40000000 gpa=0x0 size=2M\naccess read gva=0x40102000 cpl=$\n"
                 "access write gva=0x40005000 cpl=$\n");
  add_both_rings(cases, p, "remapped",
                 "map gva=0x40000000 gpa=0x800000 size=2M\naccess read gva=0x40003000 cpl=$\n"
                 "map gva=0x40000000 gpa=0xc00000 size=2M\ninvlpg gva=0x40003000\naccess read "
                 "gva=0x40003000 cpl=$\n");
  if (p.entry_bytes == 8) return cases;
  add_both_rings(cases, p, "both-halves",
                 "map gva=0x40000000 gpa=0x800000 size=2M\naccess read gva=0x40000008 cpl=$\n"
                 "access write gva=0x40200008 cpl=$\naccess fetch gva=0x403ff000 cpl=$\n"
                 "access rmw gva=0x401ffffc cpl=$\n");
  add_both_rings(cases, p, "above-4g",
                 "slot-add slot=1 gpa=0x100000000 pages=512 hva=0x7f0010000000\n"
                 "map gva=0x40000000 gpa=0x100000000 size=2M\naccess write gva=0x40001000 cpl=$\n"
                 "access read gva=0x40001000 cpl=$\naccess read gva=0x40200000 cpl=$\n");
  return cases;
}

Cases large_1g(const Paging& p) {
  Cases cases;
  add_both_rings(cases, p, "offsets",
                 "map gva=0x40000000 gpa=0x0 size=1G\naccess read gva=0x40800000 cpl=$\n"
                 "access write gva=0x40823458 cpl=$\naccess rmw gva=0x409ff004 size=4 cpl=$\n"
                 "access fetch gva=0x40a00010 cpl=$\n");
  return cases;
}

Cases invalidation(const Paging& p) {
  Cases cases;
  const std::string mapped = "map gva=0x40000000 gpa=0x5000\naccess write gva=0x40000000 cpl=$\n";
  struct Way {
    const char* name;
    std::string text;
  };
  const Way ways[] = {{"invlpg", "invlpg gva=0x40000000\n"},
                      {"cr3", "mov cr3=0x100000\n"},
                      {"pge", fmt::format("mov cr4={0}|pge\nmov cr4={0}\n", p.cr4)},
                      {"other-root", "mov cr3=0x200000\nmov cr3=0x100000\n"},
                      {"nothing", ""}};
  struct Edit {
    const char* name;
    std::string text;
  };
  std::vector<Edit> edits = {
      {"remap", p.edit(1, kGva, "0x9000|p|w|u")},
      {"remap-by-host", p.edit(1, kGva, "0x9000|p|w|u", " by=host")},
      {"unmap", p.edit(1, kGva, "0x5000|w|u")},
      {"read-only", p.edit(1, kGva, "0x5000|p|u")},
      {"supervisor", p.edit(1, kGva, "0x5000|p|w")},
      {"pde", p.store(kSpareTable, "0x9000|p|w|u") + p.edit(2, kGva, Paging::entry(kSpareTable))},
      {"bytewise", fmt::format("write gpa={:#x} value=0x90 size=1\n", p.table(1) + 1)}};
  if (p.entry_bytes == 8) {
    edits.push_back(
        {"two-halves", fmt::format("write gpa={:#x} value=0x9027 size=4\nwrite gpa={:#x} value=0x0 "
                                   "size=4\n",
                                   p.table(1), p.table(1) + 4)});
  }
  // As an operating system would: with A and D as they were. Without A an MMU that follows the
  // guest's tables drops what it had, whatever else has changed.
  struct Value {
    const char *name, *value;
    bool of_wide;  // entries of eight bytes have it
  };
  for (const Value& v : {Value{"remap-kept", "0x9000|p|w|u|a|d", false},
                         {"read-only-kept", "0x5000|p|u|a|d", false},
                         {"supervisor-kept", "0x5000|p|w|a|d", false},
                         {"not-accessed", "0x5000|p|w|u|d", false},
                         {"clean", "0x5000|p|w|u|a", false},
                         {"device", "0xfee00000|p|w|u|a|d", false},
                         {"to-itself", "", false},
                         {"no-execute", "0x5000|p|w|u|xd|a|d", true},
                         {"reserved", "0x8000000005000|p|w|u|a|d", true}}) {
    if (v.of_wide && !p.has_xd()) continue;
    const std::string value = v.value[0] != 0 ? v.value : Paging::entry(p.table(1), "p|w|u|a|d");
    edits.push_back({v.name, p.edit(1, kGva, value)});
  }
  for (const Way& way : ways) {
    for (const Edit& edit : edits) {
      add_both_rings(cases, p, fmt::format("{}-{}", edit.name, way.name),
                     mapped + edit.text + way.text +
                         "access read gva=0x40000000 cpl=$\naccess write gva=0x40000008 cpl=$\n"
                         "access fetch gva=0x40000010 cpl=$\n");
    }
    for (const Value& v : {Value{"other-device", "0xfee01000|p|w|u|a|d", false},
                           Value{"memory", "0x5000|p|w|u|a|d", false},
                           Value{"read-only-device", "0xfee00000|p|u|a|d", false},
                           Value{"directory", "", false}, Value{"no-device", "0", false}}) {
      const std::string value = v.value[0] != 0 ? v.value : Paging::entry(p.table(2), "p|w|u|a|d");
      add_both_rings(cases, p, fmt::format("device-{}-{}", v.name, way.name),
                     "map gva=0x40000000 gpa=0xfee00000\naccess write gva=0x40000000 cpl=$\n"
                     "access read gva=0x40000000 cpl=$\n" +
                         p.edit(1, kGva, value) + way.text +
                         "access read gva=0x40000000 cpl=$\naccess write gva=0x40000000 cpl=$\n");
    }
    for (std::uint64_t quarter = 0; quarter < 4; ++quarter) {
      const std::uint64_t gva = quarter << 30 | 0x201000;
      const std::string read = fmt::format("access read gva={:#x} cpl=$\n", gva);
      const bool by_invlpg = way.text.starts_with("invlpg");
      add_both_rings(cases, p, fmt::format("quarter-{}-{}", quarter, way.name),
                     joined({fmt::format("map gva={:#x} gpa=0x5000\n", gva), read,
                             p.edit(1, gva, "0x9000|p|w|u|a"),
                             by_invlpg ? fmt::format("invlpg gva={:#x}\n", gva) : way.text, read}));
    }
  }
  // One store of eight bytes over two entries that lead to tables: all of both, or a half of each.
  const std::uint64_t next = kGva + (std::uint64_t{1} << p.shift(2));
  const std::uint64_t at = p.table(2) + p.offset(2, kGva) + (p.entry_bytes == 8 ? 4 : 0);
  const std::uint64_t low = p.entry_bytes == 8 ? 0 : kSpareTable | 0x27,
                      high = (kSpareTable + 0x1000) | 0x27;
  add_both_rings(
      cases, p, "over-two-entries",
      fmt::format("map gva={0:#x} gpa=0x5000\nmap gva={1:#x} gpa=0x6000\n"
                  "access read gva={0:#x} cpl=$\naccess read gva={1:#x} cpl=$\n",
                  kGva, next) +
          p.store(kSpareTable, "0x9000|p|w|u") + p.store(kSpareTable + 0x1000, "0xa000|p|w|u") +
          fmt::format("write gpa={:#x} value={:#x} size=8\nmov cr3=0x100000\n", at,
                      high << 32 | low) +
          fmt::format("access read gva={:#x} cpl=$\naccess read gva={:#x} cpl=$\n", next, kGva));
  add_both_rings(cases, p, "widening-needs-none",
                 "map gva=0x40000000 gpa=0x5000 pte=p|u\naccess read gva=0x40000000 cpl=$\n" +
                     p.edit(1, kGva, "0x5000|p|w|u") +
                     "access write gva=0x40000000 cpl=$\naccess write gva=0x40000000 cpl=$\n");
  add_both_rings(cases, p, "presence-needs-none",
                 "access read gva=0x40000000 cpl=$\nmap gva=0x40000000 gpa=0x5000\naccess read "
                 "gva=0x40000000 cpl=$\n");
  if (p.long_mode) {
    add_both_rings(cases, p, "non-canonical-invlpg",
                   mapped + "invlpg gva=0x8000000000000000\naccess read gva=0x40000000 cpl=$\n");
  }
  return cases;
}

// Entries beside the one that is used: whoever fills them in, too, has to see what each is.
Cases neighbours(const Paging& p) {
  Cases cases;
  struct Value {
    const char *name, *value;
    bool of_wide, without_nxe = false;
  };
  for (const Value& v :
       {Value{"fit", "0x6000|p|w|u|a|d", false}, Value{"not-accessed", "0x6000|p|w|u|d", false},
        Value{"clean", "0x6000|p|w|u|a", false}, Value{"read-only", "0x6000|p|u|a|d", false},
        Value{"supervisor", "0x6000|p|w|a|d", false}, Value{"not-present", "0x6000|w|u|a|d", false},
        Value{"device", "0xfee00000|p|w|u|a|d", false}, Value{"the-table", "", false},
        Value{"no-execute", "0x6000|p|w|u|xd|a|d", true},
        Value{"reserved", "0x8000000006000|p|w|u|a|d", true},
        Value{"bit-62", "0x4000000000006000|p|w|u|a|d", true},
        Value{"xd-is-reserved", "0x6000|p|w|u|xd|a|d", true, true}}) {
    if (v.of_wide && !p.has_xd()) continue;
    const std::string value = v.value[0] != 0 ? v.value : Paging::entry(p.table(1), "p|w|u|a|d");
    const std::string begin = (v.without_nxe ? fmt::format("mov efer={}\n", p.efer) : "") +
                              "map gva=0x40000000 gpa=0x5000\n" + p.edit(1, kGva + 0x1000, value);
    for (const char* first : {"read", "write"}) {
      for (const char* kind : {"read", "write", "fetch"}) {
        add_both_rings(
            cases, p, fmt::format("{}-{}-{}", v.name, first, kind),
            begin + fmt::format("access {} gva=0x40000000 cpl=$\naccess {} gva=0x40001000 cpl=$\n"
                                "access write gva=0x40001008 cpl=$\n",
                                first, kind));
      }
    }
    add_both_rings(cases, p, fmt::format("{}-logged", v.name),
                   "slot-flags slot=0 flags=log\ndirty-get slot=0\n" + begin +
                       "dirty-get slot=0\naccess read gva=0x40000000 cpl=$\n"
                       "access write gva=0x40001000 cpl=$\ndirty-get slot=0\n");
  }
  return cases;
}

Cases unsync_tables(const Paging& p) {
  Cases cases;
  // The last-level table itself is mapped at 0x40400000, and edited through that mapping.
  const std::string head = fmt::format(
      "map gva=0x40000000 gpa=0x5000\nmap gva=0x40001000 gpa=0x6000\nmap gva=0x40400000 "
      "gpa={:#x}\n"
      "access read gva=0x40000000 cpl=$\naccess read gva=0x40001000 cpl=$\n",
      p.table(1));
  const auto edit_at = [&](std::uint64_t gva, const std::string& value) {
    return fmt::format("access write gva={:#x} value={} size={} cpl=$\n", gva, value,
                       p.entry_bytes);
  };
  const std::string edit = edit_at(0x40400000, "0x9000|p|w|u");
  add_both_rings(cases, p, "invlpg",
                 head + edit + "invlpg gva=0x40000000\naccess read gva=0x40000000 cpl=$\n");
  add_both_rings(cases, p, "cr3",
                 head + edit + "mov cr3=0x100000\naccess read gva=0x40000000 cpl=$\n");
  add_both_rings(
      cases, p, "nothing",
      head + edit + "access read gva=0x40000000 cpl=$\naccess read gva=0x40001000 cpl=$\n");
  add_both_rings(cases, p, "many-edits",
                 head + edit + edit + edit + edit +
                     edit_at(0x40400000 + p.entry_bytes, "0xa000|p|w|u") +
                     "invlpg gva=0x40000000\ninvlpg gva=0x40001000\n"
                     "access read gva=0x40000000 cpl=$\naccess read gva=0x40001000 cpl=$\n");
  add_both_rings(
      cases, p, "upper-table-is-tracked",
      fmt::format("map gva=0x40000000 gpa=0x5000\nmap gva=0x40400000 gpa={:#x}\naccess read "
                  "gva=0x40000000 cpl=$\n",
                  p.table(2)) +
          edit_at(0x40400000 + p.offset(2, kGva), Paging::entry(kSpareTable)) +
          p.store(kSpareTable, "0x9000|p|w|u") +
          "invlpg gva=0x40000000\naccess read gva=0x40000000 cpl=$\n");
  // A mapping of a table in use becomes writable, and is then edited through.
  for (const char* pte : {"p|u|a", "p|w|u|a", "p|u|a|d", "p|w|a"}) {
    for (const std::string way : {"invlpg gva=0x40400000\n", "mov cr3=0x100000\n"}) {
      // The mapping's own table is the one that `map` took last.
      const std::uint64_t table = p.table(1) + 0x1000;
      add_both_rings(
          cases, p, fmt::format("mapping-was-{}-{}", pte, way.substr(0, way.find(' '))),
          joined(
              {fmt::format("map gva=0x40000000 gpa=0x5000\nmap gva=0x40400000 gpa={:#x} pte={}\n"
                           "access read gva=0x40000000 cpl=0\naccess read gva=0x40400000 cpl=0\n",
                           p.table(1), pte),
               p.store(table + p.offset(1, 0x4040'0000), Paging::entry(p.table(1), "p|w|u|a|d")),
               way, "access read gva=0x40400000 cpl=$\n", edit,
               "invlpg gva=0x40000000\naccess read gva=0x40000000 cpl=$\n",
               edit_at(0x40400000, "0xa000|p|w|u|a|d"),
               "mov cr3=0x100000\naccess read gva=0x40000000 cpl=$\n"}));
    }
  }
  return cases;
}

namespace {

// A table is taken out, edited by stores that nobody traps any more, and put in elsewhere, where
// there was nothing: no flush is due (SDM 3A §"Optional Invalidation"). The neighbour is touched
// first, since what faults is looked up anew in any case.
void add_returning_tables(Cases& cases, const Paging& p) {
  for (unsigned above = 2; above <= (p.long_mode ? p.levels : 2); ++above) {
    const std::uint64_t span = std::uint64_t{1} << p.shift(above), other = kGva + span;
    const std::string table = Paging::entry(p.table(above - 1), "p|w|u|a"),
                      gone = fmt::format("invlpg gva={0:#x}\ninvlpg gva={1:#x}\n", kGva,
                                         kGva + 0x1000);
    struct Edit {
      const char *name, *value;
    };
    for (const Edit& edit : {Edit{"frame", "0x9000|p|w|u|a|d"}, Edit{"read-only", "0x6000|p|u|a|d"},
                             Edit{"not-present", "0x0"}, Edit{"device", "0xfee00000|p|w|u|a|d"}}) {
      const std::string change = p.edit(1, kGva + 0x1000, edit.value);
      const std::string use = fmt::format(
          "access read gva={:#x} cpl=$\naccess read gva={:#x} cpl=$\n"
          "access write gva={:#x} cpl=$\n",
          other, other + 0x1000, other + 0x1000);
      // The first edit is announced, so that it is known to be one of a table that is in use.
      const std::string head =
          "map gva=0x40000000 gpa=0x5000\nmap gva=0x40001000 gpa=0x6000\n"
          "access read gva=0x40000000 cpl=$\naccess write gva=0x40001000 cpl=$\n" +
          p.edit(1, kGva, "0x7000|p|w|u|a|d");
      add_both_rings(cases, p, fmt::format("level-{}-comes-back-{}", above - 1, edit.name),
                     joined({head, gone, p.edit(above, kGva, "0"), gone, change,
                             p.edit(above, other, table), use}));
      add_both_rings(cases, p, fmt::format("level-{}-comes-too-{}", above - 1, edit.name),
                     joined({head, gone, change, p.edit(above, other, table), use}));
    }
  }
}

}  // namespace

Cases shared_tables(const Paging& p) {
  Cases cases;
  // Entry 2 of the top table leads to that table itself; of PAE paging it is the page directory's.
  const unsigned top = p.mode == Mode::kPae ? 2 : p.levels;
  std::uint64_t self = p.mode == Mode::kPae ? kGva : 0;
  for (unsigned level = 1; level <= top; ++level) self |= std::uint64_t{2} << p.shift(level);
  add_both_rings(
      cases, p, "self-map",
      "map gva=0x40000000 gpa=0x5000\n" +
          p.store(p.table(top) + std::uint64_t{2} * p.entry_bytes, Paging::entry(p.table(top))) +
          fmt::format("access read gva={:#x} cpl=$\naccess read gva=0x40000000 cpl=$\n", self));
  const std::uint64_t second = kGva + (std::uint64_t{1} << p.shift(2));
  add_both_rings(
      cases, p, "table-at-two-places",
      "map gva=0x40000000 gpa=0x5000\n" + p.edit(2, second, Paging::entry(p.table(1), "p|u")) +
          fmt::format("access write gva=0x40000000 cpl=$\naccess write gva={0:#x} cpl=$\n"
                      "access read gva={0:#x} cpl=$\n",
                      second));
  add_both_rings(
      cases, p, "two-roots",
      "map gva=0x40000000 gpa=0x5000\naccess read gva=0x40000000 cpl=$\nmov cr3=0x200000\n"
      "map gva=0x40000000 gpa=0x9000\naccess read gva=0x40000000 cpl=$\nmov cr3=0x100000\n"
      "access read gva=0x40000000 cpl=$\n" +
          p.edit(1, kGva, "0x6000|p|w|u") +
          "mov cr3=0x200000\nmov cr3=0x100000\naccess read gva=0x40000000 cpl=$\n");
  add_returning_tables(cases, p);
  return cases;
}

Cases global_pages(const Paging& p) {
  Cases cases;
  const std::string head =
      fmt::format(
          "mov cr4={}|pge\nmap gva=0x40000000 gpa=0x5000 pte=p|w|u|g\naccess read "
          "gva=0x40000000 cpl=$\n",
          p.cr4) +
      p.edit(1, kGva, "0x9000|p|w|u|g");
  add_both_rings(cases, p, "survives-cr3",
                 head + "mov cr3=0x100000\naccess read gva=0x40000000 cpl=$\n");
  add_both_rings(cases, p, "invlpg",
                 head + "invlpg gva=0x40000000\naccess read gva=0x40000000 cpl=$\n");
  add_both_rings(cases, p, "pge-off",
                 head + fmt::format("mov cr4={}\naccess read gva=0x40000000 cpl=$\n", p.cr4));
  return cases;
}

// SDM 3A §"PDPTE Registers": loaded by register writes, and checked then.
Cases pdptes(const Paging& p) {
  Cases cases;
  const std::string head = "map gva=0x40000000 gpa=0x5000\n";
  const std::string use = "access read gva=0x40000000 cpl=$\n";
  const std::uint64_t at = p.table(3) + p.offset(3, kGva);
  for (const char* bit : {"w", "u", "a", "d", "ps", "g", "pwt", "pcd", "0x200", "0x10000000000",
                          "0x10000000000000", "xd"}) {
    add_both_rings(cases, p, fmt::format("bit-{}", bit),
                   fmt::format("{}{}mov cr3=0x100000\n{}", head,
                               p.store(at, fmt::format("{:#x}|p|{}", p.table(2), bit)), use));
  }
  add_both_rings(
      cases, p, "not-present-hides-reserved",
      head + p.store(at, fmt::format("{:#x}|w|u|ps|xd", p.table(2))) + "mov cr3=0x100000\n" + use);
  struct Way {
    const char *name, *text;
  };
  for (const Way way : {Way{"nothing", ""}, Way{"invlpg", "invlpg gva=0x40000000\n"},
                        Way{"cr3", "mov cr3=0x100000\n"}, Way{"pge", "mov cr4=pae|pge\n"},
                        Way{"pse", "mov cr4=pae|pse\n"}, Way{"wp", "mov cr0=pe|et|ne|pg\n"},
                        Way{"cd", "mov cr0=pe|et|ne|wp|cd|pg\n"}}) {
    add_both_rings(cases, p, fmt::format("unmapped-{}", way.name),
                   fmt::format("{}{}{}{}{}", head, use, p.store(at, "0x0"), way.text, use));
    add_both_rings(cases, p, fmt::format("present-{}", way.name),
                   fmt::format("{}{}{}access read gva=0x80000000 cpl=$\n", head,
                               p.store(at + 8, Paging::entry(p.table(2), "p")), way.text));
  }
  add_both_rings(cases, p, "array-in-the-middle-of-a-page",
                 head + p.store(0x2000a8, Paging::entry(p.table(2), "p")) + "mov cr3=0x2000a0\n" +
                     use + "access write gva=0x40000008 cpl=$\n");
  return cases;
}

}  // namespace twinwalk::suite
