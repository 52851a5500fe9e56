// The conformance traces of 4-level paging. Rights and reserved bits are generated over their axes;
// the rest are short traces, each made for one rule. What a step has to do is not said here: the
// judge knows.

#include <fmt/format.h>

#include "kvm_runner/conform.h"

namespace twinwalk {
namespace {

using Cases = std::vector<ConformCase>;

constexpr const char* kKinds[] = {"read", "write", "fetch", "rmw"};
constexpr const char* kUppers[] = {"p|w|u", "p|u", "p|w", "p|w|u|xd"};
constexpr const char* kLeaves[] = {"0",    "p",      "p|w",    "p|u",     "p|w|u",
                                   "p|xd", "p|w|xd", "p|u|xd", "p|w|u|xd"};

ConformCase text_case(std::string name, std::string_view body) {
  return {std::move(name), "walk 1\n" + std::string(body)};
}

// The same body for CPL 0 and CPL 3; `$` stands for the ring.
void add_both_rings(Cases& cases, const std::string& name, std::string_view body) {
  for (const char ring : {'0', '3'}) {
    std::string text(body);
    for (char& c : text) {
      if (c == '$') c = ring;
    }
    cases.push_back(text_case(name + "-cpl" + ring, text));
  }
}

std::string every_kind(std::uint64_t gva, int cpl) {
  std::string text;
  for (const char* kind : kKinds)
    text += fmt::format("access {} gva={:#x} cpl={}\n", kind, gva, cpl);
  return text;
}

Cases permissions(int cpl, const char* size) {
  Cases cases;
  for (const char* upper : kUppers) {
    for (const char* leaf : kLeaves) {
      std::string text = fmt::format("map gva=0x40000000 gpa=0x800000 size={} pte={} upper={}\n",
                                     size, leaf, upper);
      text += every_kind(0x40000000, cpl);
      text += "mov cr0=pe|et|ne|pg\n" + every_kind(0x40000000, cpl);
      cases.push_back(text_case(fmt::format("upper-{}-leaf-{}", upper, leaf), text));
    }
  }
  return cases;
}
Cases permissions_cpl0() { return permissions(0, "4K"); }
Cases permissions_cpl3() { return permissions(3, "4K"); }
Cases permissions_2m() {
  Cases cases = permissions(0, "2M");
  for (ConformCase& c : permissions(3, "2M"))
    cases.push_back({"user-" + c.name, std::move(c.text)});
  return cases;
}

Cases not_present() {
  Cases cases;
  for (int level = 1; level <= 4; ++level) {
    std::string text = "map gva=0x40000000 gpa=0x5000\n";
    const std::uint64_t tables[] = {0, 0x103000, 0x102000, 0x101000, 0x100000};
    const std::uint64_t index = level == 3 ? 1 : 0;
    text += fmt::format("write gpa={:#x} value=0x0\n", tables[level] + index * 8);
    add_both_rings(cases, fmt::format("level-{}", level),
                   text +
                       "access read gva=0x40000000 cpl=$\naccess write gva=0x40000008 cpl=$\n"
                       "access fetch gva=0x40000010 cpl=$\n");
  }
  return cases;
}

Cases reserved_bits() {
  Cases cases;
  const char* bits[] = {"0x10000000000", "0x200000000000", "0x8000000000000"};  // 40, 45, 51
  for (int level = 1; level <= 4; ++level) {
    for (const char* bit : bits) {
      // The second `map` of the same address changes upper entries, the leaf's own bits only the
      // leaf.
      const std::string text =
          level == 1
              ? fmt::format("map gva=0x40000000 gpa=0x5000 pte=p|w|u|{}\n", bit)
              : fmt::format("map gva=0x40000000 gpa=0x5000\nwrite gpa={:#x} value={}|{}|p|w|u\n",
                            0x100000 + (4 - level) * 0x1000 + (level == 3 ? 8 : 0),
                            0x100000 + (5 - level) * 0x1000, bit);
      add_both_rings(cases, fmt::format("level-{}-{}", level, bit),
                     text +
                         "access read gva=0x40000000 cpl=$\naccess write gva=0x40000000 cpl=$\n"
                         "access fetch gva=0x40000000 cpl=$\n");
    }
  }
  add_both_rings(cases, "pml4e-ps",
                 "map gva=0x40000000 gpa=0x5000\nwrite gpa=0x100000 value=0x101000|p|w|u|ps\n"
                 "access read gva=0x40000000 cpl=$\naccess write gva=0x40000000 cpl=$\n");
  for (const char* low : {"0x2000", "0x100000"}) {
    add_both_rings(
        cases, fmt::format("2m-{}", low),
        fmt::format("map gva=0x40000000 gpa=0x800000 size=2M pte=p|w|u|{}\n"
                    "access read gva=0x40000000 cpl=$\naccess write gva=0x40000000 cpl=$\n",
                    low));
  }
  add_both_rings(cases, "2m-pat-is-not-reserved",
                 "map gva=0x40000000 gpa=0x800000 size=2M pte=p|w|u|0x1000\naccess read "
                 "gva=0x40000000 cpl=$\n");
  add_both_rings(
      cases, "not-present-hides-reserved",
      "map gva=0x40000000 gpa=0x5000 pte=0x8000000000000\naccess read gva=0x40000000 cpl=$\n");
  return cases;
}

Cases accessed_dirty() {
  Cases cases;
  add_both_rings(cases, "set",
                 "map gva=0x40000000 gpa=0x5000\naccess read gva=0x40000000 cpl=$\n"
                 "access write gva=0x40000000 cpl=$\naccess read gva=0x40000000 cpl=$\n");
  add_both_rings(cases, "cleared-and-invalidated",
                 "map gva=0x40000000 gpa=0x5000\naccess write gva=0x40000000 cpl=$\n"
                 "write gpa=0x103000 value=0x5000|p|w|u\ninvlpg gva=0x40000000\n"
                 "access read gva=0x40000000 cpl=$\naccess write gva=0x40000000 cpl=$\n");
  add_both_rings(
      cases, "dirty-from-the-start",
      "map gva=0x40000000 gpa=0x5000 pte=p|w|u|a|d\naccess write gva=0x40000000 cpl=$\n");
  add_both_rings(cases, "no-dirty-on-fault",
                 "map gva=0x40000000 gpa=0x5000 pte=p|u\naccess write gva=0x40000000 cpl=$\n"
                 "access read gva=0x40000000 cpl=$\n");
  add_both_rings(cases, "large-page",
                 "map gva=0x40000000 gpa=0x800000 size=2M\naccess read gva=0x40001000 cpl=$\n"
                 "access write gva=0x40123000 cpl=$\n");
  return cases;
}

Cases large_pages(const char* size) {
  Cases cases;
  add_both_rings(
      cases, "offsets",
      fmt::format("map gva=0x40000000 gpa=0x0 size={}\naccess read gva=0x40800000 cpl=$\n"
                  "access write gva=0x40823458 cpl=$\naccess rmw gva=0x409ff004 size=4 cpl=$\n"
                  "access fetch gva=0x40a00010 cpl=$\n",
                  size));
  return cases;
}
Cases large_2m() {
  Cases cases;
  add_both_rings(cases, "offsets",
                 "map gva=0x40000000 gpa=0x800000 size=2M\naccess read gva=0x40000000 cpl=$\n"
                 "access write gva=0x40023458 cpl=$\naccess rmw gva=0x401ff004 size=4 cpl=$\n"
                 "access fetch gva=0x40100010 cpl=$\n");
  add_both_rings(cases, "split-by-the-guest",
                 "map gva=0x40000000 gpa=0x800000 size=2M\naccess write gva=0x40003000 cpl=$\n"
                 "write gpa=0x103018 value=0x9000|p|w|u\nwrite gpa=0x102000 value=0x103000|p|w|u\n"
                 "invlpg gva=0x40003000\naccess read gva=0x40003000 cpl=$\naccess read "
                 "gva=0x40004000 cpl=$\n");
  add_both_rings(cases, "tables-inside",
                 "map gva=0x40000000 gpa=0x0 size=2M\naccess read gva=0x40102000 cpl=$\n"
                 "access write gva=0x40005000 cpl=$\n");
  add_both_rings(cases, "remapped",
                 "map gva=0x40000000 gpa=0x800000 size=2M\naccess read gva=0x40003000 cpl=$\n"
                 "map gva=0x40000000 gpa=0xa00000 size=2M\ninvlpg gva=0x40003000\naccess read "
                 "gva=0x40003000 cpl=$\n");
  return cases;
}
Cases large_1g() { return large_pages("1G"); }

Cases canonical() {
  Cases cases;
  for (const char* gva : {"0x800000000000", "0xffff7fffffffffff", "0x8000000000000000"}) {
    add_both_rings(
        cases, gva,
        fmt::format("access read gva={0} size=1 cpl=$\naccess write gva={0} size=1 cpl=$\n"
                    "access fetch gva={0} cpl=$\n",
                    gva));
  }
  add_both_rings(cases, "crossing-the-edge",
                 "map gva=0x7ffffffff000 gpa=0x5000\naccess read gva=0x7ffffffffffc cpl=$\n");
  return cases;
}

Cases linear_space() {
  Cases cases;
  for (const int index : {0, 1, 127, 255, 256, 257, 273, 384, 510}) {
    const std::uint64_t low = std::uint64_t(index) << 39;
    const std::uint64_t gva = index < 256 ? low : low | 0xffff'0000'0000'0000;
    add_both_rings(cases, fmt::format("entry-{}", index),
                   fmt::format("map gva={0:#x} gpa=0x5000\naccess read gva={0:#x} cpl=$\n"
                               "access write gva={0:#x} cpl=$\naccess read gva={1:#x} cpl=$\n",
                               gva, gva + 0x1000));
  }
  return cases;
}

Cases page_crossing() {
  Cases cases;
  for (const char* kind : {"read", "write", "rmw"}) {
    for (const int size : {2, 4, 8}) {
      const std::string access =
          fmt::format("access {} gva={:#x} size={} cpl=$\n", kind, 0x40001000 - size / 2, size);
      const auto both = [&](const char* what, const char* first, const char* second) {
        add_both_rings(
            cases, fmt::format("{}-{}-{}", what, kind, size),
            fmt::format(
                "map gva=0x40000000 gpa=0x5000 pte={}\nmap gva=0x40001000 gpa=0x9000 pte={}\n",
                first, second) +
                access + "access read gva=0x40000ff8 cpl=$\n");
      };
      both("both", "p|w|u", "p|w|u");
      both("first-faults", "0", "p|w|u");
      both("second-faults", "p|w|u", "0");
      both("second-read-only", "p|w|u", "p|u");
    }
  }
  return cases;
}

Cases invalidation() {
  Cases cases;
  const std::string mapped = "map gva=0x40000000 gpa=0x5000\naccess write gva=0x40000000 cpl=$\n";
  struct Way {
    const char *name, *text;
  };
  const Way ways[] = {{"invlpg", "invlpg gva=0x40000000\n"},
                      {"cr3", "mov cr3=0x100000\n"},
                      {"pge", "mov cr4=pae|pge\nmov cr4=pae\n"},
                      {"nothing", ""}};
  struct Edit {
    const char *name, *text;
  };
  const Edit edits[] = {
      {"remap", "write gpa=0x103000 value=0x9000|p|w|u\n"},
      {"remap-by-host", "write gpa=0x103000 value=0x9000|p|w|u by=host\n"},
      {"unmap", "write gpa=0x103000 value=0x5000|w|u\n"},
      {"read-only", "write gpa=0x103000 value=0x5000|p|u\n"},
      {"supervisor", "write gpa=0x103000 value=0x5000|p|w\n"},
      {"pde", "write gpa=0x104000 value=0x9000|p|w|u\nwrite gpa=0x102000 value=0x104000|p|w|u\n"},
      {"two-halves",
       "write gpa=0x103000 value=0x9027 size=4\nwrite gpa=0x103004 value=0x0 size=4\n"},
      {"bytewise", "write gpa=0x103001 value=0x90 size=1\n"}};
  for (const Way& way : ways) {
    for (const Edit& edit : edits) {
      add_both_rings(cases, fmt::format("{}-{}", edit.name, way.name),
                     mapped + edit.text + way.text +
                         "access read gva=0x40000000 cpl=$\naccess write gva=0x40000008 cpl=$\n");
    }
  }
  add_both_rings(cases, "widening-needs-none",
                 "map gva=0x40000000 gpa=0x5000 pte=p|u\naccess read gva=0x40000000 cpl=$\n"
                 "write gpa=0x103000 value=0x5000|p|w|u\naccess write gva=0x40000000 cpl=$\n"
                 "access write gva=0x40000000 cpl=$\n");
  add_both_rings(cases, "presence-needs-none",
                 "access read gva=0x40000000 cpl=$\nmap gva=0x40000000 gpa=0x5000\naccess read "
                 "gva=0x40000000 cpl=$\n");
  add_both_rings(cases, "non-canonical-invlpg",
                 mapped + "invlpg gva=0x800000000000\naccess read gva=0x40000000 cpl=$\n");
  return cases;
}

Cases unsync_tables() {
  Cases cases;
  // The last-level table itself is mapped at 0x40200000, and edited through that mapping.
  const std::string head =
      "map gva=0x40000000 gpa=0x5000\nmap gva=0x40001000 gpa=0x6000\nmap gva=0x40200000 "
      "gpa=0x103000\n"
      "access read gva=0x40000000 cpl=$\naccess read gva=0x40001000 cpl=$\n";
  const std::string edit = "access write gva=0x40200000 value=0x9000|p|w|u cpl=$\n";
  add_both_rings(cases, "invlpg",
                 head + edit + "invlpg gva=0x40000000\naccess read gva=0x40000000 cpl=$\n");
  add_both_rings(cases, "cr3",
                 head + edit + "mov cr3=0x100000\naccess read gva=0x40000000 cpl=$\n");
  add_both_rings(
      cases, "nothing",
      head + edit + "access read gva=0x40000000 cpl=$\naccess read gva=0x40001000 cpl=$\n");
  add_both_rings(cases, "many-edits",
                 head + edit + edit + edit + edit +
                     "access write gva=0x40200008 value=0xa000|p|w|u cpl=$\n"
                     "invlpg gva=0x40000000\ninvlpg gva=0x40001000\n"
                     "access read gva=0x40000000 cpl=$\naccess read gva=0x40001000 cpl=$\n");
  add_both_rings(cases, "upper-table-is-tracked",
                 "map gva=0x40000000 gpa=0x5000\nmap gva=0x40200000 gpa=0x102000\naccess read "
                 "gva=0x40000000 cpl=$\n"
                 "access write gva=0x40200000 value=0x105000|p|w|u cpl=$\nwrite gpa=0x105000 "
                 "value=0x9000|p|w|u\n"
                 "invlpg gva=0x40000000\naccess read gva=0x40000000 cpl=$\n");
  return cases;
}

Cases shared_tables() {
  Cases cases;
  add_both_rings(cases, "self-map",
                 "map gva=0x40000000 gpa=0x5000\nwrite gpa=0x100010 value=0x100000|p|w|u\n"
                 "access read gva=0x10080402000 cpl=$\naccess read gva=0x40000000 cpl=$\n");
  add_both_rings(cases, "table-at-two-places",
                 "map gva=0x40000000 gpa=0x5000\nwrite gpa=0x102008 value=0x103000|p|u\n"
                 "access write gva=0x40000000 cpl=$\naccess write gva=0x40200000 cpl=$\n"
                 "access read gva=0x40200000 cpl=$\n");
  add_both_rings(
      cases, "two-roots",
      "map gva=0x40000000 gpa=0x5000\naccess read gva=0x40000000 cpl=$\nmov cr3=0x200000\n"
      "map gva=0x40000000 gpa=0x9000\naccess read gva=0x40000000 cpl=$\nmov cr3=0x100000\n"
      "access read gva=0x40000000 cpl=$\nwrite gpa=0x103000 value=0x6000|p|w|u\nmov cr3=0x200000\n"
      "mov cr3=0x100000\naccess read gva=0x40000000 cpl=$\n");
  return cases;
}

Cases global_pages() {
  Cases cases;
  const std::string head =
      "mov cr4=pae|pge\nmap gva=0x40000000 gpa=0x5000 pte=p|w|u|g\naccess read gva=0x40000000 "
      "cpl=$\n"
      "write gpa=0x103000 value=0x9000|p|w|u|g\n";
  add_both_rings(cases, "survives-cr3",
                 head + "mov cr3=0x100000\naccess read gva=0x40000000 cpl=$\n");
  add_both_rings(cases, "invlpg",
                 head + "invlpg gva=0x40000000\naccess read gva=0x40000000 cpl=$\n");
  add_both_rings(cases, "pge-off", head + "mov cr4=pae\naccess read gva=0x40000000 cpl=$\n");
  return cases;
}

Cases control_registers() {
  Cases cases;
  for (const char* mov :
       {"cr0=pe|et|ne|wp|pg|nw", "cr0=0x180010031", "cr0=et|ne|wp|pg", "cr3=0x10000100000",
        "cr3=0x8000000000100000", "cr3=0x100018", "cr4=pae|0x800000000", "cr4=pae|0x40000000",
        "cr4=pae|mce|pse", "efer=lme|lma|nxe|0x2", "efer=lme|nxe", "efer=lme|lma|nxe|svme",
        "efer=sce|lme|lma|nxe"}) {
    cases.push_back(text_case(
        mov,
        fmt::format("map gva=0x40000000 gpa=0x5000\nmov {}\naccess read gva=0x40000000\n", mov)));
  }
  return cases;
}

Cases nx_disabled() {
  Cases cases;
  const std::string off = "mov efer=lme|lma\n";
  add_both_rings(cases, "xd-is-reserved",
                 "map gva=0x40000000 gpa=0x5000 pte=p|w|u|xd\n" + off +
                     "access read gva=0x40000000 cpl=$\naccess fetch gva=0x40000000 cpl=$\n");
  add_both_rings(
      cases, "fetch-has-no-i",
      "map gva=0x40000000 gpa=0x5000 pte=0x0\n" + off + "access fetch gva=0x40000000 cpl=$\n");
  return cases;
}

Cases memslots() {
  Cases cases;
  const std::string head =
      "map gva=0x40000000 gpa=0x10000000\nslot-add slot=1 gpa=0x10000000 pages=4 "
      "hva=0x7f0000800000\n"
      "access write gva=0x40000000 cpl=$\n";
  const std::string use = "access read gva=0x40000000 cpl=$\naccess write gva=0x40000008 cpl=$\n";
  add_both_rings(cases, "delete", head + "slot-delete slot=1\n" + use);
  add_both_rings(
      cases, "delete-and-add",
      head + "slot-delete slot=1\nslot-add slot=1 gpa=0x10000000 pages=4 hva=0x7f0000900000\n" +
          use);
  add_both_rings(cases, "move", head + "slot-move slot=1 gpa=0x20000000\n" + use);
  add_both_rings(cases, "move-under-a-mapping",
                 "map gva=0x40000000 gpa=0x20000000\naccess read gva=0x40000000 cpl=$\n"
                 "slot-add slot=1 gpa=0x10000000 pages=4 hva=0x7f0000800000\nslot-move slot=1 "
                 "gpa=0x20000000\n" +
                     use);
  add_both_rings(cases, "read-only",
                 head + "slot-flags slot=1 flags=ro\n" + use + "slot-flags slot=1 flags=0\n" + use);
  add_both_rings(cases, "refused",
                 head +
                     "slot-add slot=2 gpa=0x10003000 pages=1 hva=0x7f0000800000\n"
                     "slot-add slot=1 gpa=0x30000000 pages=1 hva=0x7f0000800000\n"
                     "slot-delete slot=3\nslot-move slot=1 gpa=0x0\nslot-add slot=9 gpa=0x40000000 "
                     "pages=1 hva=0x7f0000800000\n" +
                     use);
  add_both_rings(cases, "two-slots-one-hva",
                 head +
                     "slot-add slot=2 gpa=0x20000000 pages=4 hva=0x7f0000800000\n"
                     "map gva=0x40001000 gpa=0x20000000\naccess read gva=0x40001000 cpl=$\n");
  add_both_rings(
      cases, "table-in-a-slot",
      "slot-add slot=1 gpa=0x10000000 pages=4 hva=0x7f0000800000\nmap gva=0x40000000 gpa=0x5000\n"
      "write gpa=0x10000000 value=0x9000|p|w|u\nwrite gpa=0x102000 value=0x10000000|p|w|u\n"
      "access read gva=0x40000000 cpl=$\nslot-delete slot=1\naccess read gva=0x40000000 cpl=$\n");
  return cases;
}

Cases mmio() {
  Cases cases;
  for (const int size : {1, 2, 4, 8}) {
    add_both_rings(
        cases, fmt::format("size-{}", size),
        fmt::format("map gva=0x40000000 gpa=0x10000000\naccess read gva=0x40000008 size={0} cpl=$\n"
                    "access write gva=0x40000010 size={0} cpl=$\naccess rmw gva=0x40000018 "
                    "size={0} cpl=$\n",
                    size));
  }
  add_both_rings(cases, "becomes-memory",
                 "map gva=0x40000000 gpa=0x10000000\naccess read gva=0x40000000 cpl=$\naccess read "
                 "gva=0x40000000 cpl=$\n"
                 "slot-add slot=1 gpa=0x10000000 pages=1 hva=0x7f0000800000\naccess read "
                 "gva=0x40000000 cpl=$\n"
                 "slot-delete slot=1\naccess read gva=0x40000000 cpl=$\n");
  add_both_rings(cases, "rights-come-first",
                 "map gva=0x40000000 gpa=0x10000000 pte=p\naccess write gva=0x40000000 "
                 "cpl=$\naccess read gva=0x40000000 cpl=$\n");
  return cases;
}

Cases dirty_log() {
  Cases cases;
  const std::string head =
      "map gva=0x40000000 gpa=0x10000000\nmap gva=0x40001000 gpa=0x10001000\n"
      "slot-add slot=1 gpa=0x10000000 pages=4 hva=0x7f0000800000 flags=log\n";
  const std::string store = "access write gva=0x40001000 cpl=$\n", get = "dirty-get slot=1\n";
  add_both_rings(cases, "store", head + store + get + get);
  add_both_rings(cases, "store-again", head + store + get + store + get);
  add_both_rings(cases, "emulated-store",
                 head + "write gpa=0x10002000\n" + get + "write gpa=0x10002ffc\n" + get);
  add_both_rings(cases, "crossing-store", head + "access write gva=0x40000ffc cpl=$\n" + get);
  add_both_rings(cases, "rmw", head + "access rmw gva=0x40000000 cpl=$\n" + get);
  add_both_rings(
      cases, "switched-on-later",
      head + "slot-flags slot=1 flags=0\n" + store + "slot-flags slot=1 flags=log\n" + store + get);
  add_both_rings(cases, "tables-are-memory",
                 "slot-add slot=1 gpa=0x10000000 pages=4 hva=0x7f0000800000 flags=log\nmap "
                 "gva=0x40000000 gpa=0x5000\n"
                 "write gpa=0x10000000 value=0x9000|p|w|u\nwrite gpa=0x102000 "
                 "value=0x10000000|p|w|u\ndirty-get slot=1\n"
                 "access write gva=0x40000000 cpl=$\ndirty-get slot=1\n");
  add_both_rings(cases, "not-logging",
                 "slot-add slot=1 gpa=0x10000000 pages=4 hva=0x7f0000800000\ndirty-get slot=1\n");
  return cases;
}

Cases notifier() {
  Cases cases;
  const std::string head = "map gva=0x40000000 gpa=0x5000\naccess write gva=0x40000000 cpl=$\n";
  const std::string use =
      "access read gva=0x40000000 cpl=$\naccess write gva=0x40000008 cpl=$\naccess read "
      "gva=0x40000008 cpl=$\n";
  add_both_rings(cases, "invalidate", head + "invalidate hva=0x7f0000005000\n" + use);
  add_both_rings(cases, "remap", head + "remap hva=0x7f0000005000\n" + use);
  add_both_rings(cases, "protect",
                 head + "protect hva=0x7f0000005000 writable=0\n" + use +
                     "protect hva=0x7f0000005000 writable=1\n" + use);
  add_both_rings(cases, "host-store", head + "write gpa=0x5000 value=0x77 by=host\n" + use);
  add_both_rings(cases, "table-invalidated",
                 head + "invalidate hva=0x7f0000103000\ninvlpg gva=0x40000000\n" + use);
  add_both_rings(cases, "zap-all", head + "zap-all\n" + use);
  return cases;
}

Cases several_vcpus() {
  Cases cases;
  const std::string head =
      "machine vcpus=2\nmap gva=0x40000000 gpa=0x5000\naccess write gva=0x40000000 cpl=$\n"
      "access read gva=0x40000000 cpl=$ vcpu=1\n";
  add_both_rings(
      cases, "shared-store",
      head + "access write gva=0x40000008 cpl=$ vcpu=1\naccess read gva=0x40000008 cpl=$\n");
  add_both_rings(cases, "edit-and-flush-both",
                 head +
                     "write gpa=0x103000 value=0x9000|p|w|u\ninvlpg gva=0x40000000\n"
                     "invlpg gva=0x40000000 vcpu=1\naccess read gva=0x40000000 cpl=$ vcpu=1\n"
                     "access read gva=0x40000000 cpl=$\n");
  add_both_rings(
      cases, "own-registers",
      head +
          "mov cr0=pe|et|ne|pg vcpu=1\nwrite gpa=0x103000 value=0x5000|p|u\n"
          "invlpg gva=0x40000000\ninvlpg gva=0x40000000 vcpu=1\n"
          "access write gva=0x40000000 cpl=$\naccess write gva=0x40000000 cpl=$ vcpu=1\n");
  add_both_rings(cases, "own-roots",
                 head +
                     "mov cr3=0x200000 vcpu=1\nmap gva=0x40000000 gpa=0x9000 vcpu=1\n"
                     "access read gva=0x40000000 cpl=$ vcpu=1\naccess read gva=0x40000000 cpl=$\n");
  return cases;
}

Cases pcid() {
  Cases cases;
  add_both_rings(cases, "tags",
                 "mov cr4=pae|pcide\nmap gva=0x40000000 gpa=0x5000\naccess read gva=0x40000000 "
                 "cpl=$\nmov cr3=0x200001\n"
                 "map gva=0x40000000 gpa=0x9000\naccess read gva=0x40000000 cpl=$\nmov "
                 "cr3=0x8000000000100000\n"
                 "access read gva=0x40000000 cpl=$\n");
  for (const int type : {0, 1, 2, 3}) {
    add_both_rings(
        cases, fmt::format("invpcid-{}", type),
        fmt::format(
            "mov cr4=pae|pcide\nmap gva=0x40000000 gpa=0x5000\naccess read gva=0x40000000 cpl=$\n"
            "write gpa=0x103000 value=0x9000|p|w|u\ninvpcid type={} pcid=0x0 gva=0x40000000\n"
            "access read gva=0x40000000 cpl=$\n",
            type));
  }
  return cases;
}

Cases invpcid_faults() {
  Cases cases;
  for (const char* operands : {"type=4", "type=0 pcid=0x1000", "type=0 pcid=0x1",
                               "type=0 gva=0x800000000000", "type=2 pcid=0xfff"}) {
    cases.push_back(text_case(operands, fmt::format("invpcid {}\n", operands)));
  }
  return cases;
}

Cases with_cr4(const char* bits, const char* before) {
  Cases cases;
  for (const char* leaf : kLeaves) {
    for (const int cpl : {0, 3}) {
      for (const int ac : {0, 1}) {
        std::string text =
            fmt::format("map gva=0x40000000 gpa=0x5000 pte={}\nmov cr4=pae|{}\nmov ac={}\n{}", leaf,
                        bits, ac, before);
        text += every_kind(0x40000000, cpl);
        text += "mov cr0=pe|et|ne|pg\n" + every_kind(0x40000000, cpl);
        cases.push_back(text_case(fmt::format("{}-cpl{}-ac{}", leaf, cpl, ac), text));
      }
    }
  }
  return cases;
}
Cases smep() { return with_cr4("smep", ""); }
Cases smap() { return with_cr4("smap", ""); }
Cases pku() {
  Cases cases;
  for (const char* pkru : {"0x0", "0x4", "0x8", "0xc", "0x3"}) {
    for (ConformCase& c : with_cr4("pke", "")) {
      const auto at = c.text.find(" pte=");
      if (c.text.compare(at, 8, " pte=0\nm") == 0) continue;
      c.text.insert(c.text.find('\n', at), "|pk1");
      c.text.insert(c.text.find("access"), fmt::format("mov pkru={}\n", pkru));
      cases.push_back({fmt::format("{}-{}", pkru, c.name), std::move(c.text)});
    }
  }
  return cases;
}

constexpr ConformFeature kFourLevel[] = {
    {"permissions-cpl0", "Rights of leaf and upper entries, CR0.WP on and off, supervisor.",
     permissions_cpl0},
    {"permissions-cpl3", "The same for user accesses.", permissions_cpl3},
    {"permissions-2m", "The same for 2M pages.", permissions_2m},
    {"not-present", "P=0 at each level.", not_present},
    {"reserved-bits", "Reserved bits at each level.", reserved_bits},
    {"accessed-dirty", "A and D of guest entries.", accessed_dirty},
    {"large-2m", "2M pages, split and remapped.", large_2m},
    {"large-1g", "1G pages.", large_1g},
    {"canonical", "Non-canonical addresses.", canonical},
    {"linear-space", "Addresses from one end of linear space to the other.", linear_space},
    {"page-crossing", "Accesses that cross a page.", page_crossing},
    {"invalidation", "Edits of entries, and what makes them count.", invalidation},
    {"unsync-tables", "Tables that the guest edits through its own mappings.", unsync_tables},
    {"shared-tables", "Tables used at several places.", shared_tables},
    {"global-pages", "CR4.PGE and G.", global_pages},
    {"control-registers", "Legal and illegal register writes.", control_registers},
    {"nx-disabled", "EFER.NXE=0.", nx_disabled},
    {"memslots", "Memslots come, go, move and change.", memslots},
    {"mmio", "Addresses without memslot.", mmio},
    {"dirty-log", "The dirty log.", dirty_log},
    {"notifier", "The host changes what stands behind guest memory.", notifier},
    {"smp", "Two vCPUs.", several_vcpus},
    {"pcid", "PCIDs, no-flush CR3, INVPCID.", pcid},
    {"invpcid-faults", "Illegal INVPCID.", invpcid_faults},
    {"smep", "CR4.SMEP.", smep},
    {"smap", "CR4.SMAP and EFLAGS.AC.", smap},
    {"pku", "CR4.PKE and PKRU.", pku},
};

}  // namespace

std::span<const ConformFeature> conform_features(Mode mode) {
  if (mode != Mode::k4Level) return {};
  return kFourLevel;
}

}  // namespace twinwalk
