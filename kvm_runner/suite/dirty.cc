// How the host learns what the guest has written.

#include <fmt/format.h>

#include "kvm_runner/suite/suite.h"

namespace twinwalk::suite {
namespace {

// What every kind of log has to have; `machine` says the kind.
Cases logged_stores(const Paging& p, std::string_view machine) {
  Cases cases;
  const std::string head =
      "map gva=0x10000000 gpa=0x10000000\nmap gva=0x10001000 gpa=0x10001000\n"
      "slot-add slot=1 gpa=0x10000000 pages=4 hva=0x7f0000800000 flags=log\n";
  const std::string store = "access write gva=0x10001000 cpl=$\n", get = "dirty-get slot=1\n";
  add_both_rings(cases, p, "store", head + store + get + get, machine);
  add_both_rings(cases, p, "store-again", head + store + get + store + get, machine);
  add_both_rings(cases, p, "emulated-store",
                 head + "write gpa=0x10002000\n" + get + "write gpa=0x10002ffc\n" + get, machine);
  add_both_rings(cases, p, "crossing-store", head + "access write gva=0x10000ffc cpl=$\n" + get,
                 machine);
  add_both_rings(cases, p, "rmw", head + "access rmw gva=0x10000000 cpl=$\n" + get, machine);
  add_both_rings(
      cases, p, "switched-on-later",
      head + "slot-flags slot=1 flags=0\n" + store + "slot-flags slot=1 flags=log\n" + store + get,
      machine);
  // All of a slot, its first page and its last, and what lies beside it.
  std::string maps, all;
  for (std::uint64_t page = 0x0fff'f000; page <= 0x1000'4000; page += 0x1000) {
    maps += fmt::format("map gva={0:#x} gpa={0:#x}\n", page);
    all += fmt::format("access write gva={:#x} cpl=$\n", page);
  }
  const std::string beside =
      "slot-add slot=2 gpa=0xffff000 pages=1 hva=0x7f0000900000\n"
      "slot-add slot=3 gpa=0x10004000 pages=1 hva=0x7f0000901000\n";
  add_both_rings(cases, p, "every-page",
                 head + maps + beside + "slot-flags slot=1 flags=0\n" + all +
                     "slot-flags slot=1 flags=log\n" + all + get + all + get + get,
                 machine);
  if (!p.off()) {
    add_both_rings(cases, p, "tables-are-memory",
                   "slot-add slot=1 gpa=0x20000000 pages=4 hva=0x7f0000800000 flags=log\nmap "
                   "gva=0x10000000 gpa=0x5000\n" +
                       p.store(0x20000000, "0x9000|p|w|u") +
                       p.edit(2, 0x10000000, Paging::entry(0x20000000)) +
                       "dirty-get slot=1\n"
                       "access write gva=0x10000000 cpl=$\ndirty-get slot=1\n",
                   machine);
  }
  add_both_rings(cases, p, "not-logging",
                 "slot-add slot=1 gpa=0x10000000 pages=4 hva=0x7f0000800000\ndirty-get slot=1\n",
                 machine);
  add_both_rings(cases, p, "moved", head + store + "slot-move slot=1 gpa=0x20000000\n" + get,
                 machine);
  add_both_rings(
      cases, p, "read-only-for-a-while",
      head + store + "slot-flags slot=1 flags=ro|log\nslot-flags slot=1 flags=log\n" + get,
      machine);
  return cases;
}

}  // namespace

Cases dirty_log(const Paging& p) { return logged_stores(p, ""); }

// What was collected stays in the log until it is cleared, page by page.
Cases dirty_clear(const Paging& p) {
  Cases cases;
  for (const std::string kind : {"manual-clear", "manual-clear|initially-set"}) {
    const std::string options = "options=" + kind;
    for (ConformCase& c : logged_stores(p, options))
      cases.push_back({kind + "-" + c.name, std::move(c.text)});
    // 130 pages: the last word of the bitmap is not full.
    const std::string head =
        "map gva=0x10000000 gpa=0x10000000\nmap gva=0x10041000 gpa=0x10041000\n"
        "map gva=0x10081000 gpa=0x10081000\n"
        "slot-add slot=1 gpa=0x10000000 pages=130 hva=0x7f0000800000 flags=log\n";
    const std::string stores =
        "access write gva=0x10000000 cpl=$\naccess write gva=0x10041000 cpl=$\n"
        "access write gva=0x10081000 cpl=$\n";
    struct Range {
      const char *name, *fields;
    };
    for (const Range& range :
         {Range{"first", "gpa=0x10000000"}, Range{"middle", "gpa=0x10041000"},
          Range{"last", "gpa=0x10081000"}, Range{"inner", "gpa=0x10001000 pages=128"},
          Range{"all", "gpa=0x10000000 pages=130"}}) {
      const std::string get = "dirty-get slot=1\n",
                        clear = fmt::format("dirty-clear slot=1 {}\n", range.fields);
      add_both_rings(cases, p, fmt::format("{}-{}", kind, range.name),
                     fmt::format("{0}{1}{2}{3}{1}{2}{3}{2}{1}{2}", head, stores, get, clear),
                     options);
    }
    add_both_rings(cases, p, kind + "-refused",
                   fmt::format("{}dirty-clear slot=1 gpa=0xffff000\n"
                               "dirty-clear slot=1 gpa=0x10000000 pages=131\n"
                               "dirty-clear slot=1 gpa=0x10000800\n"
                               "dirty-clear slot=2 gpa=0x10000000\n{}dirty-get slot=1\n",
                               head, stores),
                   options);
  }
  return cases;
}

// Each vCPU tells what it wrote in a ring of its own.
Cases dirty_ring(const Paging& p) {
  const char *const options = "options=dirty-ring", *const two = "options=dirty-ring vcpus=2";
  Cases cases = logged_stores(p, options);
  const std::string root = p.off() ? "" : "mov cr3=0x100000 vcpu=1\n";
  const std::string slot =
      "slot-add slot=1 gpa=0x10000000 pages=512 hva=0x7f0000800000 flags=log\n";
  add_both_rings(cases, p, "two-vcpus",
                 "map gva=0x10000000 gpa=0x10000000\nmap gva=0x10001000 gpa=0x10001000\n" + root +
                     slot +
                     "access write gva=0x10000000 cpl=$\naccess write gva=0x10001000 cpl=$ "
                     "vcpu=1\nwrite gpa=0x10002000 vcpu=1\ndirty-get slot=1\n"
                     "access write gva=0x10000000 cpl=$ vcpu=1\naccess write gva=0x10001000 "
                     "cpl=$\ndirty-get slot=1\n",
                 two);
  add_both_rings(cases, p, "of-a-vcpu-that-is-gone",
                 "map gva=0x10000000 gpa=0x10000000\n" + root + slot +
                     "access write gva=0x10000000 cpl=$ vcpu=1\nnew-vcpu vcpu=1\ndirty-get "
                     "slot=1\naccess write gva=0x10000000 cpl=$ vcpu=1\ndirty-get slot=1\n",
                 two);
  // More than the least ring takes, so that the vCPU has to stop for it.
  std::string stores;
  for (std::uint64_t page = 0; page < 480; ++page)
    stores += fmt::format("access write gva={:#x} size=4 cpl=$\n", 0x1000'0000 + 0x1000 * page);
  const std::string map = p.off() ? "" : "map gva=0x10000000 gpa=0x10000000 size=2M\n";
  add_both_rings(cases, p, "full", map + slot + stores + "dirty-get slot=1\n", options);
  return cases;
}

// A vCPU goes, and another with the registers of the start takes its place.
Cases new_vcpus(const Paging& p) {
  Cases cases;
  const char* const two = "vcpus=2";
  const std::string use = "access read gva=0x5000 cpl=$\naccess write gva=0x5008 cpl=$\n",
                    map = "map gva=0x5000 gpa=0x5000\n", renew = "new-vcpu\n";
  add_both_rings(cases, p, "the-only-one", map + use + renew + "get cr0\nget cr3\nget cr4\n" + use);
  add_both_rings(cases, p, "one-of-two",
                 map + use + "new-vcpu vcpu=1\naccess read gva=0x5008 cpl=$ vcpu=1\n" + renew + use,
                 two);
  add_both_rings(cases, p, "again-and-again",
                 map + renew + use + renew + use + renew + renew + use);
  add_both_rings(cases, p, "memslot-gone-meanwhile",
                 "map gva=0x10000000 gpa=0x10000000\n"
                 "slot-add slot=1 gpa=0x10000000 pages=1 hva=0x7f0000800000\n"
                 "access write gva=0x10000000 cpl=$\nnew-vcpu\nslot-delete slot=1\n"
                 "access read gva=0x10000000 cpl=$\n");
  if (p.off()) return cases;
  add_both_rings(cases, p, "another-root",
                 map + use + "mov cr3=0x200000\nmap gva=0x5000 gpa=0x9000\nmov cr3=0x200000\n" +
                     use + renew + use);
  // Nothing of the old one's is left that an edit would have to be announced to.
  add_both_rings(cases, p, "edit-between",
                 map + use + p.edit(1, 0x5000, "0x9000|p|w|u") + renew + use);
  return cases;
}

}  // namespace twinwalk::suite
