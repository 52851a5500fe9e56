#include <fmt/format.h>

#include <cstring>

#include "kvm_runner/suite/suite.h"

namespace twinwalk::suite {
namespace {

constexpr const char* kUppers[] = {"p|w|u", "p|u", "p|w", "p|w|u|xd"};
constexpr const char* kLeaves[] = {"0",    "p",      "p|w",    "p|u",     "p|w|u",
                                   "p|xd", "p|w|xd", "p|u|xd", "p|w|u|xd"};
constexpr std::uint64_t kGva = 0x4000'0000;

bool can_be(const Paging& p, const char* bits) {
  return p.has_xd() || std::strstr(bits, "xd") == nullptr;
}

Cases permissions(const Paging& p, int cpl, const char* size) {
  Cases cases;
  for (const char* upper : kUppers) {
    for (const char* leaf : kLeaves) {
      if (!can_be(p, upper) || !can_be(p, leaf)) continue;
      std::string text = fmt::format("map gva={:#x} gpa=0x800000 size={} pte={} upper={}\n", kGva,
                                     size, leaf, upper);
      text += every_kind(kGva, cpl);
      text += "mov cr0=pe|et|ne|pg\n" + every_kind(kGva, cpl);
      cases.push_back(text_case(p, fmt::format("upper-{}-leaf-{}", upper, leaf), text));
    }
  }
  return cases;
}

Cases with_cr4(const Paging& p, const char* bits) {
  Cases cases;
  for (const char* leaf : kLeaves) {
    if (!can_be(p, leaf)) continue;
    for (const int cpl : {0, 3}) {
      for (const int ac : {0, 1}) {
        std::string text =
            fmt::format("map gva={:#x} gpa=0x5000 pte={}\nmov cr4={}|{}\nmov ac={}\n", kGva, leaf,
                        p.cr4, bits, ac);
        text += every_kind(kGva, cpl);
        text += "mov cr0=pe|et|ne|pg\n" + every_kind(kGva, cpl);
        cases.push_back(text_case(p, fmt::format("{}-cpl{}-ac{}", leaf, cpl, ac), text));
      }
    }
  }
  return cases;
}

}  // namespace

Cases permissions_cpl0(const Paging& p) { return permissions(p, 0, "4K"); }
Cases permissions_cpl3(const Paging& p) { return permissions(p, 3, "4K"); }
Cases permissions_large(const Paging& p) {
  Cases cases = permissions(p, 0, "2M");
  for (ConformCase& c : permissions(p, 3, "2M"))
    cases.push_back({"user-" + c.name, std::move(c.text)});
  return cases;
}

Cases smep(const Paging& p) { return with_cr4(p, "smep"); }
Cases smap(const Paging& p) { return with_cr4(p, "smap"); }

Cases pku(const Paging& p) {
  Cases cases;
  for (const char* pkru : {"0x0", "0x4", "0x8", "0xc", "0x3"}) {
    for (ConformCase& c : with_cr4(p, "pke")) {
      const auto at = c.text.find(" pte=");
      if (c.text.compare(at, 8, " pte=0\nm") == 0) continue;
      c.text.insert(c.text.find('\n', at), "|pk1");
      c.text.insert(c.text.find("access"), fmt::format("mov pkru={}\n", pkru));
      cases.push_back({fmt::format("{}-{}", pkru, c.name), std::move(c.text)});
    }
  }
  return cases;
}

Cases nx_disabled(const Paging& p) {
  Cases cases;
  const std::string off = fmt::format("mov efer={}\n", p.efer);
  add_both_rings(cases, p, "xd-is-reserved",
                 "map gva=0x40000000 gpa=0x5000 pte=p|w|u|xd\n" + off +
                     "access read gva=0x40000000 cpl=$\naccess fetch gva=0x40000000 cpl=$\n");
  add_both_rings(
      cases, p, "fetch-has-no-i",
      "map gva=0x40000000 gpa=0x5000 pte=0x0\n" + off + "access fetch gva=0x40000000 cpl=$\n");
  return cases;
}

}  // namespace twinwalk::suite
