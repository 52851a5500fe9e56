#include <fmt/format.h>

#include "kvm_runner/suite/suite.h"

namespace twinwalk::suite {

Cases canonical(const Paging& p) {
  Cases cases;
  const std::uint64_t edge = std::uint64_t{1} << (p.shift(p.levels) + p.index_bits - 1);
  for (const std::uint64_t gva : {edge, ~edge, std::uint64_t{0x8000'0000'0000'0000}}) {
    add_both_rings(cases, p, fmt::format("{:#x}", gva),
                   fmt::format("access read gva={0:#x} size=1 cpl=$\naccess write gva={0:#x} "
                               "size=1 cpl=$\naccess fetch gva={0:#x} cpl=$\n",
                               gva));
  }
  add_both_rings(cases, p, "crossing-the-edge",
                 fmt::format("map gva={:#x} gpa=0x5000\naccess read gva={:#x} cpl=$\n",
                             edge - 0x1000, edge - 4));
  return cases;
}

// Outside IA-32e mode addresses have 32 bits.
Cases wrapping(const Paging& p) {
  Cases cases;
  add_both_rings(cases, p, "higher-bits-are-none",
                 "map gva=0x5000 gpa=0x5000\naccess read gva=0x100005000 cpl=$\n"
                 "access write gva=0xffffffff00005008 cpl=$\naccess fetch gva=0x8000000000005010 "
                 "cpl=$\n");
  for (const char* kind : {"read", "write", "rmw"}) {
    add_both_rings(cases, p, fmt::format("{}-runs-on-at-zero", kind),
                   fmt::format("slot-add slot=1 gpa=0xfffff000 pages=1 hva=0x7f0000800000\n"
                               "map gva=0xfffff000 gpa=0xfffff000\nmap gva=0x0 gpa=0x0\n"
                               "access {} gva=0xfffffffc cpl=$\naccess read gva=0x0 cpl=$\n",
                               kind));
  }
  if (p.off()) return cases;
  add_both_rings(cases, p, "second-page-faults-at-zero",
                 "map gva=0xfffff000 gpa=0x5000\naccess read gva=0xfffffffc cpl=$\n");
  return cases;
}

Cases linear_space(const Paging& p) {
  Cases cases;
  const unsigned entries = 1u << (p.mode == Mode::kPae ? 2 : p.index_bits);
  // Not the last one: the runners on real machines have it.
  std::vector<unsigned> indices = {0,
                                   1,
                                   entries / 4 - 1,
                                   entries / 2 - 1,
                                   entries / 2,
                                   entries / 2 + 1,
                                   3 * entries / 4,
                                   entries - 2};
  if (p.long_mode) indices.push_back(273);
  if (p.mode == Mode::kPae) indices = {0, 1, 2, 3};
  for (const unsigned index : indices) {
    const std::uint64_t low = std::uint64_t{index} << p.shift(p.levels);
    const unsigned bits = p.shift(p.levels) + p.index_bits;
    const bool upper_half = p.long_mode && index >= entries / 2;
    const std::uint64_t gva = upper_half ? low | ~(bit(bits) - 1) : low;
    add_both_rings(cases, p, fmt::format("entry-{}", index),
                   fmt::format("map gva={0:#x} gpa=0x5000\naccess read gva={0:#x} cpl=$\n"
                               "access write gva={0:#x} cpl=$\naccess read gva={1:#x} cpl=$\n",
                               gva, gva + 0x1000));
  }
  return cases;
}

Cases page_crossing(const Paging& p) {
  Cases cases;
  for (const char* kind : {"read", "write", "rmw"}) {
    for (const int size : {2, 4, 8}) {
      const std::string access =
          fmt::format("access {} gva={:#x} size={} cpl=$\n", kind, 0x40001000 - size / 2, size);
      const auto both = [&](const char* what, const char* first, const char* second) {
        add_both_rings(
            cases, p, fmt::format("{}-{}-{}", what, kind, size),
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

// Without paging a linear address is a physical one, and no bit of any register or table counts.
Cases physical(const Paging& p) {
  Cases cases;
  std::string use;
  for (const char* gva : {"0x0", "0x5000", "0x5ffc", "0x100000", "0x3fffff8", "0x4000000"})
    use += fmt::format(
        "access read gva={0} cpl=$\naccess write gva={0} cpl=$\naccess rmw gva={0} size=4 cpl=$\n",
        gva);
  use += "access fetch gva=0x5008 cpl=$\n";
  add_both_rings(cases, p, "everywhere", use);
  for (const char* mov : {"cr0=pe|et|ne", "cr3=0x123000", "cr4=pae", "cr4=pse", "cr4=pge",
                          "cr4=smep", "cr4=smap", "cr4=pke", "efer=nxe", "efer=lme"})
    add_both_rings(cases, p, mov, fmt::format("mov {}\n{}", mov, use));
  add_both_rings(cases, p, "tables-are-data",
                 "write gpa=0x100000 value=0x101000|p\naccess write gva=0x100000 cpl=$\ninvlpg "
                 "gva=0x100000\naccess read gva=0x100000 cpl=$\n");
  return cases;
}

}  // namespace twinwalk::suite
