// Traces that are a hypervisor with AMD's nested paging. The guest's page is at 0x600000, linear
// and guest-physical, so that the same traces are for a guest without paging.

#include <fmt/format.h>

#include "kvm_runner/suite/suite.h"

namespace twinwalk::suite {
namespace {

constexpr const char* kMachine = "core=bare nested=npt vendor=amd host-levels=4 host-maxphyaddr=40";
// The guest's tables and all below 2 MiB by one nested page; the page's own nested table is the
// fourth page of the pool.
constexpr const char* kGuest = "npt-map ngpa=0x0 gpa=0x0 size=2M\nmap gva=0x600000 gpa=0x600000\n";
constexpr const char* kUse =
    "access read gva=0x600000 cpl=$\naccess write gva=0x600008 cpl=$\n"
    "access fetch gva=0x600010 cpl=$\naccess rmw gva=0x600018 cpl=$\n";
constexpr const char* kUseOther =
    "access read gva=0x800000 cpl=$\naccess write gva=0x800008 cpl=$\n"
    "access fetch gva=0x800010 cpl=$\naccess rmw gva=0x800018 cpl=$\n";
constexpr std::uint64_t kNestedPte = kNestedPool + 0x3000;

std::string nested_map(std::uint64_t gpa, std::string_view rest = "") {
  return fmt::format("npt-map ngpa=0x600000 gpa={:#x}{}\n", gpa, rest);
}

void add(Cases& cases, const Paging& p, const std::string& name, const std::string& body,
         std::string_view machine = "") {
  add_both_rings(cases, p, name, body, fmt::format("{}{}", kMachine, machine));
}

}  // namespace

Cases nested_rights(const Paging& p) {
  Cases cases;
  for (const char* rights : {"p|w|u", "p|u", "p|w", "p", "w|u", "p|w|u|xd", "p|u|xd"}) {
    add(cases, p, fmt::format("leaf-{}", rights),
        kGuest + nested_map(0x2000000, fmt::format(" pte={}", rights)) + "vm-enter\n" + kUse);
  }
  // The page has upper entries of its own, so that the guest's tables stay in reach.
  for (const char* rights : {"p|u", "p|w", "p|w|u|xd"}) {
    add(cases, p, fmt::format("upper-{}", rights),
        kGuest +
            fmt::format("npt-map ngpa=0x600000 gpa=0x2000000 upper={0}\n"
                        "write gpa={1:#x} value={2:#x}|p|w|u\n",
                        rights, kNestedPool, kNestedPool + 0x1000) +
            fmt::format("write gpa={:#x} value={:#x}|p|w|u\n", kNestedPool + 0x1000,
                        kNestedPool + 0x2000) +
            "vm-enter\n" + kUse);
  }
  // One table by two ways of other rights. What the wider one has brought is there when the
  // narrower one comes again.
  for (const char* rights : {"p|u", "p|w", "p|w|u|xd"}) {
    const std::string shared =
        kGuest + nested_map(0x2000000) +
        fmt::format("map gva=0x800000 gpa=0x800000\nwrite gpa={:#x} value={:#x}|{}\nvm-enter\n",
                    kNestedPool + 0x2020, kNestedPte, rights);
    add(cases, p, fmt::format("shared-table-{}", rights),
        fmt::format("{0}{1}{2}{1}{2}", shared, kUse, kUseOther));
  }
  return cases;
}

Cases nested_reserved(const Paging& p) {
  Cases cases;
  for (const char* bit : {"0x10000000000", "0x200000000000", "0x8000000000000"}) {
    add(cases, p, fmt::format("leaf-{}", bit),
        kGuest + nested_map(0x2000000, fmt::format(" pte=p|w|u|{}", bit)) + "vm-enter\n" + kUse);
    add(cases, p, fmt::format("pde-{}", bit),
        kGuest + nested_map(0x2000000) +
            fmt::format("write gpa={:#x} value={:#x}|{}|p|w|u\n", kNestedPool + 0x2018, kNestedPte,
                        bit) +
            "vm-enter\n" + kUse);
  }
  add(cases, p, "2m-low-bits",
      kGuest + nested_map(0x2000000, " size=2M pte=p|w|u|0x2000") + "vm-enter\n" + kUse);
  add(cases, p, "no-nxe", kGuest + nested_map(0x2000000, " pte=p|w|u|xd") + "vm-enter\n" + kUse,
      " tdp=-nxe");
  return cases;
}

// The guest reads the nested entry of its page.
Cases nested_accessed_dirty(const Paging& p) {
  Cases cases;
  const std::string see =
      fmt::format("map gva=0x180000 gpa={0:#x}\nvm-enter\naccess read gva={1:#x} cpl=$\n",
                  kNestedPte, p.off() ? kNestedPte : 0x180000);
  const std::string look =
      fmt::format("access read gva={:#x} cpl=$\n", p.off() ? kNestedPte : 0x180000);
  for (const char* kind : {"read", "write", "rmw", "fetch"}) {
    add(cases, p, kind,
        fmt::format("{}{}{}access {} gva=0x600000 cpl=$\n{}access write gva=0x600000 cpl=$\n{}",
                    kGuest, nested_map(0x2000000), see, kind, look, look));
    add(cases, p, fmt::format("{}-read-only", kind),
        fmt::format("{}{}{}access {} gva=0x600000 cpl=$\n{}", kGuest,
                    nested_map(0x2000000, " pte=p|u"), see, kind, look));
    // A host that has its own copy of the page has no reason of its own to watch for stores.
    add(cases, p, fmt::format("{}-of-a-stored-page", kind),
        fmt::format("{}{}write gpa=0x2000ff8 value=0x1\n{}access {} gva=0x600000 cpl=$\n{}access "
                    "write gva=0x600000 cpl=$\n{}",
                    kGuest, nested_map(0x2000000), see, kind, look, look));
  }
  return cases;
}

// What walks of the guest's tables ask of the nested ones.
Cases nested_tables(const Paging& p) {
  Cases cases;
  const std::uint64_t leaf_table = p.table(1);
  const std::string moved = fmt::format("map gva=0x600000 gpa=0x600000\n{}vm-enter\n",
                                        p.edit(2, 0x600000, Paging::entry(0x601000)));
  for (const char* rights : {"p|w|u", "p|u", "p|w", "w|u", "p|w|u|xd", "p|w|u|0x200000000000"}) {
    add(cases, p, fmt::format("table-{}", rights),
        fmt::format("npt-map ngpa=0x0 gpa=0x0 size=2M\nnpt-map ngpa=0x600000 gpa=0x2000000\n"
                    "npt-map ngpa=0x601000 gpa={:#x} pte={}\n",
                    leaf_table, rights) +
            moved + kUse);
  }
  return cases;
}

Cases nested_large(const Paging& p) {
  Cases cases;
  add(cases, p, "2m", kGuest + nested_map(0x2000000, " size=2M") + "vm-enter\n" + kUse);
  add(cases, p, "1g",
      "npt-map ngpa=0x0 gpa=0x0 size=1G\nmap gva=0x600000 gpa=0x600000\nvm-enter\n" +
          std::string(kUse));
  add(cases, p, "split",
      kGuest + nested_map(0x2000000, " size=2M") + "vm-enter\n" + kUse +
          fmt::format("npt-map ngpa=0x600000 gpa=0x2400000\nvm-exit\nvm-enter tlb=1\n") + kUse);
  add(cases, p, "joined",
      kGuest + nested_map(0x2001000) + "vm-enter\n" + kUse + nested_map(0x2000000, " size=2M") +
          "vm-exit\nvm-enter tlb=1\n" + kUse);
  return cases;
}

Cases nested_invalidation(const Paging& p) {
  Cases cases;
  const std::string begin = kGuest + nested_map(0x2000000) + "vm-enter\n" + kUse;
  const std::string flush = "vm-exit\nvm-enter tlb=1\n";
  add(cases, p, "moved", begin + nested_map(0x2400000) + kUse + flush + kUse);
  add(cases, p, "taken-away",
      begin + fmt::format("write gpa={:#x} value=0x0\n", kNestedPte) + kUse + flush + kUse);
  add(cases, p, "made-read-only", begin + nested_map(0x2000000, " pte=p|u") + kUse + flush + kUse);
  // A and D stay, so that a hypervisor of hypervisors has no other reason to look at the entry
  // anew.
  for (const char* changed :
       {"0x2400000|p|w|u|a|d", "0x2000000|p|u|a|d", "0x2000000|p|w|a|d", "0x2000000|p|w|u|a|d|xd",
        "0x2000000|p|w|u|a", "0x2000000|p|w|u|a|d|0x200000000000"}) {
    const std::string edited =
        fmt::format("{}write gpa={:#x} value={}\n{}{}", begin, kNestedPte, changed, flush, kUse);
    add(cases, p, fmt::format("changed-to-{}", changed),
        fmt::format("{}{}{}", edited, flush, kUse));
    add(cases, p, fmt::format("changed-from-{}", changed),
        fmt::format("{}write gpa={:#x} value=0x2000000|p|w|u|a|d\n{}{}", edited, kNestedPte, flush,
                    kUse));
  }
  add(cases, p, "given", std::string(kGuest) + "vm-enter\n" + kUse + nested_map(0x2000000) + kUse);
  add(cases, p, "another-asid", begin + nested_map(0x2400000) + "vm-enter vpid=2\n" + kUse);
  add(cases, p, "another-root",
      begin +
          "npt-map ngpa=0x0 gpa=0x0 size=2M root=0x168000\n"
          "npt-map ngpa=0x600000 gpa=0x2400000 root=0x168000\nvm-enter root=0x168000 tlb=1\n" +
          kUse + "vm-enter tlb=1\n" + kUse);
  add(cases, p, "upper-table",
      begin +
          fmt::format("write gpa={:#x} value=0x3000000|p|w|u\nwrite gpa=0x3000000 "
                      "value=0x2400000|p|w|u\n",
                      kNestedPool + 0x2018) +
          flush + kUse);
  if (p.off()) return cases;
  add(cases, p, "guest-entry-and-invlpga",
      begin +
          "npt-map ngpa=0x601000 gpa=0x2800000\nmap gva=0x600000 gpa=0x601000\n"
          "invlpga gva=0x600000 asid=0x1\n" +
          kUse);
  add(cases, p, "guest-entry-and-invlpg",
      begin +
          "npt-map ngpa=0x601000 gpa=0x2800000\nmap gva=0x600000 gpa=0x601000\n"
          "invlpg gva=0x600000\n" +
          kUse);
  return cases;
}

// Its hypervisor's other processor edits while a guest runs.
Cases nested_smp(const Paging& p) {
  Cases cases;
  const std::string begin = kGuest + nested_map(0x2000000) + "vm-enter\n" + kUse;
  const std::string store = fmt::format("write gpa={:#x}", kNestedPte);
  add(cases, p, "moved",
      begin + store + " value=0x2400000|p|w|u vcpu=1\n" + kUse + "vm-exit\nvm-enter tlb=1\n" + kUse,
      " vcpus=2");
  add(cases, p, "taken-away",
      begin + store + " value=0x0 vcpu=1\n" + kUse + "vm-exit\nvm-enter tlb=1\n" + kUse,
      " vcpus=2");
  add(cases, p, "two-guests",
      begin + "vm-enter root=0x140000 vpid=2 vcpu=1\naccess read gva=0x600000 cpl=$ vcpu=1\n" +
          nested_map(0x2400000) +
          "vm-exit vcpu=1\nvm-enter vpid=2 tlb=1 vcpu=1\n"
          "access read gva=0x600000 cpl=$ vcpu=1\n" +
          kUse,
      " vcpus=2");
  return cases;
}

Cases nested_vmrun(const Paging& p) {
  Cases cases;
  const std::string begin = kGuest + nested_map(0x2000000);
  add(cases, p, "asid-0",
      begin + "vm-enter vpid=0\nvm-enter\n" + kUse + "vm-enter vpid=0\n" + kUse);
  add(cases, p, "tlb-control-2", begin + "vm-enter tlb=2\nvm-enter\n" + kUse);
  add(cases, p, "again", begin + "vm-enter\n" + kUse + "vm-exit\nvm-enter\n" + kUse);
  add(cases, p, "device", kGuest + nested_map(0x10000000) + "vm-enter\n" + kUse);
  add(cases, p, "table-outside-memory",
      begin +
          fmt::format("write gpa={:#x} value=0x10000000|p|w|u\nvm-enter\n", kNestedPool + 0x2018) +
          kUse);
  return cases;
}

}  // namespace twinwalk::suite
