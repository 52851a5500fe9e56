#include <fmt/format.h>

#include "kvm_runner/suite/suite.h"

namespace twinwalk::suite {
namespace {

std::vector<std::string> illegal_and_legal(const Paging& p) {
  const char* const pg = p.off() ? "" : "|pg";
  const auto with = [](const char* base, const char* more) {
    return std::string(base) == "0" ? std::string(more) : fmt::format("{}|{}", base, more);
  };
  std::vector<std::string> movs = {
      fmt::format("cr0=pe|et|ne|wp{}|nw", pg),
      fmt::format("cr0={:#x}", (p.off() ? 0x1'0001'0031 : 0x1'8001'0031)),
      "cr0=et|ne|wp|pg",
      "cr3=0x10000100000",
      "cr3=0x8000000000100000",
      "cr3=0x100018",
      "cr4=" + with(p.cr4, "0x800000000"),
      "cr4=" + with(p.cr4, "0x40000000"),
      "cr4=" + with(p.cr4, "mce"),
      "cr4=" + with(p.cr4, "pcide"),
      "cr4=" + with(p.cr4, "la57"),
      "efer=" + with(p.efer, "nxe|0x2"),
      "efer=" + with(p.efer, "nxe|svme"),
      "efer=" + with(p.efer, "sce|nxe"),
      "efer=lme|nxe",
      "efer=nxe"};
  if (p.mode != Mode::k32Bit) movs.push_back("cr4=" + with(p.cr4, "mce|pse"));
  if (p.long_mode) movs.insert(movs.end(), {"cr4=0", "cr4=pae", "efer=lme|nxe|0x2"});
  return movs;
}

// From any mode to that one, on tables at `root`: paging goes off in between. SDM 3A
// §"Paging-Mode Enabling".
std::string enter(const Paging& to, const char* root) {
  std::string text = "mov cr0=pe|et|ne|wp\n";
  text += fmt::format("mov cr4={}\nmov efer={}nxe\nmov cr3={}\n", to.cr4,
                      to.long_mode ? "lme|" : "", root);
  return to.off() ? text : text + "mov cr0=pe|et|ne|wp|pg\n";
}

}  // namespace

Cases control_registers(const Paging& p) {
  Cases cases;
  for (const std::string& mov : illegal_and_legal(p)) {
    cases.push_back(text_case(
        p, mov,
        fmt::format("map gva=0x400000 gpa=0x400000\nmov {}\naccess read gva=0x400000\n", mov)));
  }
  return cases;
}

Cases mode_changes(const Paging& p) {
  Cases cases;
  for (const Mode mode : {Mode::kNone, Mode::k32Bit, Mode::kPae, Mode::k4Level, Mode::k5Level}) {
    if (mode == p.mode) continue;
    const Paging& other = paging_of(mode);
    const bool la57 = mode == Mode::k5Level || p.mode == Mode::k5Level;
    const std::string use = "access read gva=0x405000 cpl=$\naccess write gva=0x405008 cpl=$\n";
    const char* const here = "map gva=0x405000 gpa=0x405000\n";
    const std::string there = enter(other, "0x200000") + "map gva=0x405000 gpa=0x407000\n" + use;
    const char* features =
        la57 ? "features=nx|1g|pge|pcid|invpcid|smep|smap|pku|la57|pse|pse36|pae" : "";
    const std::string_view name = twinwalk::name_of(mode);
    add_both_rings(cases, p, fmt::format("to-{}-and-back", name),
                   fmt::format("{}{}{}{}{}", here, use, there, enter(p, "0x100000"), use),
                   features);
    add_both_rings(cases, p, fmt::format("to-{}-on-the-same-tables", name),
                   fmt::format("{}{}{}{}", here, use, enter(other, "0x100000"), use), features);
  }
  return cases;
}

Cases pcid(const Paging& p) {
  Cases cases;
  const std::string on = fmt::format("mov cr4={}|pcide\n", p.cr4);
  add_both_rings(cases, p, "tags",
                 on + "map gva=0x40000000 gpa=0x5000\naccess read gva=0x40000000 "
                      "cpl=$\nmov cr3=0x200001\n"
                      "map gva=0x40000000 gpa=0x9000\naccess read gva=0x40000000 cpl=$\nmov "
                      "cr3=0x8000000000100000\n"
                      "access read gva=0x40000000 cpl=$\n");
  for (const int type : {0, 1, 2, 3}) {
    add_both_rings(cases, p, fmt::format("invpcid-{}", type),
                   on + "map gva=0x40000000 gpa=0x5000\naccess read gva=0x40000000 cpl=$\n" +
                       p.edit(1, 0x40000000, "0x9000|p|w|u") +
                       fmt::format("invpcid type={} pcid=0x0 gva=0x40000000\n"
                                   "access read gva=0x40000000 cpl=$\n",
                                   type));
  }
  return cases;
}

Cases invpcid_faults(const Paging& p) {
  Cases cases;
  for (const char* operands : {"type=4", "type=0 pcid=0x1000", "type=0 pcid=0x1",
                               "type=0 gva=0x8000000000000000", "type=2 pcid=0xfff"}) {
    cases.push_back(text_case(p, operands, fmt::format("invpcid {}\n", operands)));
  }
  return cases;
}

}  // namespace twinwalk::suite
