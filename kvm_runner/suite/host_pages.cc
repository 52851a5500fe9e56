// Host pages of 2M below the guest's: what serves 512 pages at once, and has to come apart for a
// log, a table, a hole.

#include <fmt/format.h>

#include "kvm_runner/suite/suite.h"

namespace twinwalk::suite {
namespace {

constexpr const char* kHuge = "host-pages=2M";
constexpr std::uint64_t kAt = 0x1000'0000, kLarge = 0x20'0000, kSpareTable = 0x11'0000;
constexpr const char* kSlot = "slot-add slot=1 gpa=0x10000000 pages=1024 hva=0x7f0000800000\n";
constexpr const char* kGet = "dirty-get slot=1\n";

// Large guest pages for the 4M from `gva`.
std::string map_large(const Paging& p, std::uint64_t gva, std::uint64_t gpa) {
  if (p.off()) return "";
  std::string text = fmt::format("map gva={:#x} gpa={:#x} size=2M\n", gva, gpa);
  if (p.entry_bytes == 8)
    text += fmt::format("map gva={:#x} gpa={:#x} size=2M\n", gva + kLarge, gpa + kLarge);
  return text;
}

std::string touch(std::string_view kind, std::initializer_list<std::uint64_t> offsets) {
  std::string text;
  for (const std::uint64_t offset : offsets)
    text += fmt::format("access {} gva={:#x} cpl=$\n", kind, kAt + offset);
  return text;
}

void add_logs(Cases& cases, const Paging& p, const std::string& map) {
  const std::string on = "slot-flags slot=1 flags=log\n", off = "slot-flags slot=1 flags=0\n";
  const std::string begin = kSlot + map;
  for (const std::string kind : {"", "eager-split", "manual-clear", "manual-clear|initially-set",
                                 "manual-clear|initially-set|eager-split", "dirty-ring"}) {
    const std::string machine = kind.empty() ? kHuge : fmt::format("{} options={}", kHuge, kind);
    const std::string name = kind.empty() ? "log" : kind;
    const std::string get = kGet;
    add_both_rings(
        cases, p, name + "-after-stores",
        joined({begin, touch("write", {0x3000, 0x203000}), on,
                touch("write", {0x4000, 0x1ff000, 0x200000, 0x3ff000}), get,
                touch("write", {0x4000, 0x5000, 0x3ff000}), get, touch("read", {0x3000, 0x6000}),
                off, touch("write", {0x6000}), on, touch("write", {0x6000, 0x7000}), get}),
        machine);
    add_both_rings(
        cases, p, name + "-after-loads",
        joined({begin, touch("read", {0x3000, 0x3fe000}), on, touch("read", {0x4000, 0x203000}),
                touch("write", {0x5000, 0x6000, 0x3ff000}), get, touch("write", {0x6000, 0x7000}),
                get}),
        machine);
    if (!kind.starts_with("manual-clear")) continue;
    struct Range {
      std::uint64_t first, pages;
    };
    // Ends of large pages, and of the words of a bitmap.
    for (const Range& range : {Range{0, 512}, Range{0, 511}, Range{511, 2}, Range{512, 512},
                               Range{63, 1}, Range{64, 1}, Range{960, 64}, Range{0, 1024}}) {
      const std::string stores =
          touch("write", {0, 0x3f000, 0x40000, 0x1fe000, 0x1ff000, 0x200000, 0x201000, 0x3ff000});
      const std::string clear = fmt::format("dirty-clear slot=1 gpa={:#x} pages={}\n",
                                            kAt + 0x1000 * range.first, range.pages);
      add_both_rings(cases, p, fmt::format("{}-{}-and-{}", kind, range.first, range.pages),
                     joined({begin, touch("write", {0x3000, 0x203000}), on, get, clear, stores, get,
                             clear, stores, get}),
                     machine);
    }
  }
}

void add_host_events(Cases& cases, const Paging& p, const std::string& map) {
  const std::string begin = kSlot + map + touch("write", {0, 0x3000, 0x1ff000, 0x200000, 0x3ff000});
  const std::string use =
      touch("read", {0, 0x3000, 0x4000, 0x1fe000, 0x1ff000, 0x200000, 0x3ff000}) +
      touch("write", {0x3008, 0x1ff008, 0x200008}) + touch("read", {0x3008, 0x1ff008, 0x200008});
  struct Range {
    const char *name, *fields;
  };
  for (const Range& range :
       {Range{"first", "hva=0x7f0000800000"}, Range{"inner", "hva=0x7f0000803000"},
        Range{"last", "hva=0x7f00009ff000"}, Range{"border", "hva=0x7f00009ff000 pages=2"},
        Range{"one-whole", "hva=0x7f0000800000 pages=512"},
        Range{"both-whole", "hva=0x7f0000800000 pages=1024"}}) {
    for (const std::string verb : {"invalidate", "remap", "protect"}) {
      const char* const rest = verb == "protect" ? " writable=0" : "";
      add_both_rings(cases, p, fmt::format("{}-{}", verb, range.name),
                     fmt::format("{}{} {}{}\n{}", begin, verb, range.fields, rest, use), kHuge);
    }
  }
  add_both_rings(
      cases, p, "split-and-collapsed",
      begin + "huge-split hva=0x7f0000800000\n" + use + "huge-collapse hva=0x7f0000800000\n" + use,
      kHuge);
  add_both_rings(
      cases, p, "collapsed-after-a-hole",
      begin + "invalidate hva=0x7f0000803000\n" + use + "huge-collapse hva=0x7f0000800000\n" + use,
      kHuge);
}

void add_slots(Cases& cases, const Paging& p, const std::string& map) {
  const std::string use = touch("read", {0, 0x3000, 0xff000, 0x100000, 0x1ff000, 0x200000}) +
                          touch("write", {0x3008, 0x1ff008, 0x200008});
  const auto slot = [](unsigned id, std::uint64_t gpa, unsigned pages, std::uint64_t offset) {
    return fmt::format("slot-add slot={} gpa={:#x} pages={} hva={:#x}\n", id, gpa, pages,
                       kHvaBase + offset);
  };
  add_both_rings(cases, p, "slot-ends-inside", slot(1, kAt, 256, 0x80'0000) + map + use, kHuge);
  add_both_rings(cases, p, "slot-begins-inside",
                 slot(1, kAt + 0x10'0000, 512, 0x90'0000) + map + use, kHuge);
  add_both_rings(
      cases, p, "two-slots-in-one-page",
      slot(1, kAt, 256, 0x80'0000) + slot(2, kAt + 0x10'0000, 512, 0xd0'0000) + map + use, kHuge);
  add_both_rings(cases, p, "slot-askew", slot(1, kAt, 1024, 0x80'1000) + map + use, kHuge);
  const std::string begin = kSlot + map + use;
  add_both_rings(cases, p, "slot-deleted", begin + "slot-delete slot=1\n" + use, kHuge);
  add_both_rings(cases, p, "slot-moved", begin + "slot-move slot=1 gpa=0x10200000\n" + use, kHuge);
  add_both_rings(cases, p, "slot-read-only",
                 begin + "slot-flags slot=1 flags=ro\n" + use + "slot-flags slot=1 flags=0\n" + use,
                 kHuge);
}

// A page inside a large one becomes a table, and is edited through the large one.
void add_tables(Cases& cases, const Paging& p) {
  const std::uint64_t user = 0x4000'0000, table = 0x80'3000;
  for (unsigned level = 1; level <= (p.mode == Mode::kPae ? 2 : p.levels - 1); ++level) {
    // The table's entry for `user`, and of a directory the table that it leads to at first.
    const std::string old_value = level == 1 ? "0x5000|p|w|u" : Paging::entry(kSpareTable),
                      new_value = level == 1 ? "0x6000|p|w|u" : "0";
    const std::uint64_t entry = p.offset(level, user);
    const std::string edit =
        fmt::format("access write gva={:#x} value={} size={} cpl=$\n",
                    kAt + (table - 0x80'0000) + entry, new_value, p.entry_bytes);
    std::string begin = map_large(p, kAt, 0x80'0000) + touch("write", {0x3000, 0x4000});
    begin += fmt::format("map gva={:#x} gpa=0x5000\n", user);
    for (unsigned below = level; below > 1; --below) {
      const std::uint64_t at = kSpareTable + (level - below) * 0x1000;
      begin += p.store(at + p.offset(below - 1, user),
                       below == 2 ? "0x5000|p|w|u" : Paging::entry(at + 0x1000));
    }
    begin += p.store(table + entry, old_value) + p.edit(level + 1, user, Paging::entry(table));
    const std::string use = fmt::format("access read gva={:#x} cpl=$\n", user),
                      invlpg = fmt::format("invlpg gva={:#x}\n", user);
    add_both_rings(cases, p, fmt::format("level-{}-table-and-invlpg", level),
                   joined({begin, use, edit, invlpg, use, edit, use}), kHuge);
    add_both_rings(cases, p, fmt::format("level-{}-table-and-cr3", level),
                   joined({begin, use, edit, "mov cr3=0x100000\n", use}), kHuge);
    add_both_rings(cases, p, fmt::format("level-{}-table-no-more", level),
                   joined({begin, use, p.edit(level + 1, user, "0"), invlpg, use,
                           touch("write", {0x3000, 0x5000, 0x3000}), touch("read", {0x3000})}),
                   kHuge);
  }
}

void add_rights(Cases& cases, const Paging& p) {
  const std::string options[] = {"", " options=nx-huge"};
  for (const std::string& option : options) {
    for (const char* leaf : {"p", "p|w", "p|u", "p|w|u"}) {
      std::string text =
          fmt::format("{}map gva={:#x} gpa={:#x} size=2M pte={}\n", kSlot, kAt, kAt, leaf);
      const auto use = [&text](std::uint64_t gva) {
        for (const int cpl : {3, 0}) {
          for (const char* kind : {"read", "write", "fetch"})
            text += fmt::format("access {} gva={:#x} cpl={}\n", kind, gva, cpl);
        }
      };
      use(kAt + 0x3000);
      text += "mov cr0=pe|et|ne|pg\n";
      use(kAt + 0x4000);
      text += "mov cr0=pe|et|ne|wp|pg\n";
      use(kAt + 0x4000);
      cases.push_back(text_case(p,
                                fmt::format("rights-{}{}", leaf, option.empty() ? "" : "-nx-huge"),
                                text, kHuge + option));
    }
  }
}

}  // namespace

Cases host_pages(const Paging& p) {
  Cases cases;
  const std::string map = map_large(p, kAt, kAt);
  add_logs(cases, p, map);
  add_host_events(cases, p, map);
  add_slots(cases, p, map);
  if (p.off()) return cases;
  add_tables(cases, p);
  add_rights(cases, p);
  return cases;
}

}  // namespace twinwalk::suite
