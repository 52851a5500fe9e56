// Linear addresses are those of guest memory here, so that the same traces are for a guest without
// paging.

#include <fmt/format.h>

#include "kvm_runner/suite/suite.h"

namespace twinwalk::suite {

Cases memslots(const Paging& p) {
  Cases cases;
  const std::string head =
      "map gva=0x10000000 gpa=0x10000000\nslot-add slot=1 gpa=0x10000000 pages=4 "
      "hva=0x7f0000800000\n"
      "access write gva=0x10000000 cpl=$\n";
  const std::string use = "access read gva=0x10000000 cpl=$\naccess write gva=0x10000008 cpl=$\n";
  add_both_rings(cases, p, "delete", head + "slot-delete slot=1\n" + use);
  add_both_rings(
      cases, p, "delete-and-add",
      head + "slot-delete slot=1\nslot-add slot=1 gpa=0x10000000 pages=4 hva=0x7f0000900000\n" +
          use);
  add_both_rings(cases, p, "move", head + "slot-move slot=1 gpa=0x20000000\n" + use);
  add_both_rings(cases, p, "move-under-a-mapping",
                 "map gva=0x10000000 gpa=0x10000000\naccess read gva=0x10000000 cpl=$\n"
                 "slot-add slot=1 gpa=0x20000000 pages=4 hva=0x7f0000800000\nslot-move slot=1 "
                 "gpa=0x10000000\n" +
                     use);
  add_both_rings(cases, p, "read-only",
                 head + "slot-flags slot=1 flags=ro\n" + use + "slot-flags slot=1 flags=0\n" + use);
  add_both_rings(cases, p, "refused",
                 head +
                     "slot-add slot=2 gpa=0x10003000 pages=1 hva=0x7f0000800000\n"
                     "slot-add slot=1 gpa=0x30000000 pages=1 hva=0x7f0000800000\n"
                     "slot-delete slot=3\nslot-move slot=1 gpa=0x0\nslot-add slot=9 gpa=0x40000000 "
                     "pages=1 hva=0x7f0000800000\n" +
                     use);
  add_both_rings(cases, p, "two-slots-one-hva",
                 head +
                     "slot-add slot=2 gpa=0x20000000 pages=4 hva=0x7f0000800000\n"
                     "map gva=0x20000000 gpa=0x20000000\naccess read gva=0x20000000 cpl=$\n");
  if (p.off()) return cases;
  add_both_rings(
      cases, p, "table-in-a-slot",
      "slot-add slot=1 gpa=0x20000000 pages=4 hva=0x7f0000800000\nmap gva=0x10000000 gpa=0x5000\n" +
          p.store(0x20000000, "0x9000|p|w|u") + p.edit(2, 0x10000000, Paging::entry(0x20000000)) +
          "access read gva=0x10000000 cpl=$\nslot-delete slot=1\naccess read gva=0x10000000 "
          "cpl=$\n");
  return cases;
}

Cases mmio(const Paging& p) {
  Cases cases;
  for (const int size : {1, 2, 4, 8}) {
    add_both_rings(
        cases, p, fmt::format("size-{}", size),
        fmt::format("map gva=0x10000000 gpa=0x10000000\naccess read gva=0x10000008 size={0} cpl=$\n"
                    "access write gva=0x10000010 size={0} cpl=$\naccess rmw gva=0x10000018 "
                    "size={0} cpl=$\n",
                    size));
  }
  add_both_rings(cases, p, "becomes-memory",
                 "map gva=0x10000000 gpa=0x10000000\naccess read gva=0x10000000 cpl=$\naccess read "
                 "gva=0x10000000 cpl=$\n"
                 "slot-add slot=1 gpa=0x10000000 pages=1 hva=0x7f0000800000\naccess read "
                 "gva=0x10000000 cpl=$\n"
                 "slot-delete slot=1\naccess read gva=0x10000000 cpl=$\n");
  if (p.off()) return cases;
  for (const std::string target : {"0xfee01000", "0x5000"}) {
    add_both_rings(cases, p, "another-root-" + target,
                   "map gva=0x10000000 gpa=0xfee00000\naccess read gva=0x10000000 cpl=$\n"
                   "access write gva=0x10000008 cpl=$\nmov cr3=0x200000\nmap gva=0x10000000 gpa=" +
                       target +
                       "\naccess read gva=0x10000000 cpl=$\naccess read gva=0x10000000 cpl=$\n"
                       "mov cr3=0x100000\naccess read gva=0x10000000 cpl=$\n"
                       "mov cr3=0x200000\naccess write gva=0x10000000 cpl=$\n");
  }
  add_both_rings(cases, p, "rights-come-first",
                 "map gva=0x10000000 gpa=0x10000000 pte=p\naccess write gva=0x10000000 "
                 "cpl=$\naccess read gva=0x10000000 cpl=$\n");
  return cases;
}

Cases notifier(const Paging& p) {
  Cases cases;
  const std::string head = "map gva=0x5000 gpa=0x5000\naccess write gva=0x5000 cpl=$\n";
  const std::string use =
      "access read gva=0x5000 cpl=$\naccess write gva=0x5008 cpl=$\naccess read gva=0x5008 cpl=$\n";
  add_both_rings(cases, p, "invalidate", head + "invalidate hva=0x7f0000005000\n" + use);
  add_both_rings(cases, p, "remap", head + "remap hva=0x7f0000005000\n" + use);
  add_both_rings(cases, p, "protect",
                 head + "protect hva=0x7f0000005000 writable=0\n" + use +
                     "protect hva=0x7f0000005000 writable=1\n" + use);
  add_both_rings(cases, p, "host-store", head + "write gpa=0x5000 value=0x77 by=host\n" + use);
  if (!p.off()) {
    add_both_rings(
        cases, p, "table-invalidated",
        head + fmt::format("invalidate hva={:#x}\ninvlpg gva=0x5000\n", kHvaBase + p.table(1)) +
            use);
  }
  std::string maps, loads, stores;
  for (std::uint64_t page = 0x5000; page < 0xa000; page += 0x1000) {
    maps += fmt::format("map gva={0:#x} gpa={0:#x}\n", page);
    loads += fmt::format("access read gva={:#x} cpl=$\n", page);
    stores += fmt::format("access write gva={:#x} cpl=$\n", page + 8);
  }
  struct Range {
    const char *name, *fields;
  };
  struct Use {
    const char* name;
    const std::string& text;
  };
  for (const Range& range :
       {Range{"inner", "hva=0x7f0000006000 pages=3"}, Range{"first", "hva=0x7f0000005000 pages=2"},
        Range{"last", "hva=0x7f0000007000 pages=3"}}) {
    for (const std::string verb : {"invalidate", "remap", "protect"}) {
      const char* const rest = verb == "protect" ? " writable=0\n" : "\n";
      for (const Use& use_before : {Use{"loads", loads}, Use{"stores", stores}}) {
        add_both_rings(
            cases, p, fmt::format("{}-{}-pages-after-{}", verb, range.name, use_before.name),
            joined({maps, use_before.text, verb, " ", range.fields, rest, loads, stores, loads}));
      }
    }
  }
  add_both_rings(cases, p, "zap-all", head + "zap-all\n" + use);
  return cases;
}

Cases several_vcpus(const Paging& p) {
  Cases cases;
  const char* const two = "vcpus=2";
  // In PAE mode a PDPTE that is written later is not there for a processor that has them loaded.
  const std::string head = std::string("map gva=0x5000 gpa=0x5000\n") +
                           (p.off() ? "" : "mov cr3=0x100000 vcpu=1\n") +
                           "access write gva=0x5000 cpl=$\naccess read gva=0x5000 cpl=$ vcpu=1\n";
  add_both_rings(cases, p, "shared-store",
                 head + "access write gva=0x5008 cpl=$ vcpu=1\naccess read gva=0x5008 cpl=$\n",
                 two);
  if (p.off()) return cases;
  add_both_rings(cases, p, "edit-and-flush-both",
                 head + p.edit(1, 0x5000, "0x9000|p|w|u") +
                     "invlpg gva=0x5000\ninvlpg gva=0x5000 vcpu=1\n"
                     "access read gva=0x5000 cpl=$ vcpu=1\naccess read gva=0x5000 cpl=$\n",
                 two);
  add_both_rings(cases, p, "own-registers",
                 head + "mov cr0=pe|et|ne|pg vcpu=1\n" + p.edit(1, 0x5000, "0x5000|p|u") +
                     "invlpg gva=0x5000\ninvlpg gva=0x5000 vcpu=1\n"
                     "access write gva=0x5000 cpl=$\naccess write gva=0x5000 cpl=$ vcpu=1\n",
                 two);
  add_both_rings(cases, p, "own-roots",
                 head +
                     "mov cr3=0x200000 vcpu=1\nmap gva=0x5000 gpa=0x9000 vcpu=1\n"
                     "mov cr3=0x200000 vcpu=1\naccess read gva=0x5000 cpl=$ vcpu=1\naccess read "
                     "gva=0x5000 cpl=$\n",
                 two);
  add_both_rings(cases, p, "one-without-paging",
                 head +
                     "mov cr0=pe|et|ne|wp vcpu=1\naccess read gva=0x5000 cpl=$ vcpu=1\n"
                     "access write gva=0x5010 cpl=$ vcpu=1\naccess read gva=0x5010 cpl=$\n",
                 two);
  return cases;
}

}  // namespace twinwalk::suite
