#ifndef TWINWALK_ORACLE_MODE_BED_H_
#define TWINWALK_ORACLE_MODE_BED_H_

// For tests: a Testbed in any paging mode, with one table of each level at a fixed place.

#include <string>

#include "oracle/paging.h"
#include "oracle/testbed.h"

namespace twinwalk::oracle {

inline constexpr Mode kEveryMode[] = {Mode::kNone, Mode::k32Bit, Mode::kPae, Mode::k4Level,
                                      Mode::k5Level};
inline constexpr Mode kModesWithTables[] = {Mode::k32Bit, Mode::kPae, Mode::k4Level, Mode::k5Level};

inline Machine machine_in(Mode mode, Vendor vendor = Vendor::kIntel) {
  Machine m;
  m.features = feature::kAll & ~feature::kSvm;
  m.mode = mode;
  m.vendor = vendor;
  return m;
}

class ModeBed : public Testbed {
 public:
  explicit ModeBed(const Machine& machine, Profile profile = Profile::kKvm)
      : Testbed(profile, machine) {}
  explicit ModeBed(Mode mode, Profile profile = Profile::kKvm, Vendor vendor = Vendor::kIntel)
      : ModeBed(machine_in(mode, vendor), profile) {}

  const PagingMode& mode() const { return kModes[row_of(spec.registers(0))]; }
  // The table of a level, the same in every mode: the root's first page is the root's.
  std::uint64_t table(unsigned level) const {
    return kRoot + std::uint64_t{mode().levels - level} * 0x1000;
  }
  std::uint64_t at(std::uint64_t gva, unsigned level) const {
    return mode().entry_gpa(table(level), mode().linear(gva), level);
  }
  std::uint64_t entry(std::uint64_t gva, unsigned level) const {
    const std::uint64_t gpa = at(gva, level);
    return spec.read_word(gpa & ~std::uint64_t{7}) >> 8 * (gpa & 7) & mode().entry_mask();
  }
  // Before any access, or as an edit that nobody announces.
  void put(std::uint64_t gva, unsigned level, std::uint64_t value) {
    const std::uint64_t gpa = at(gva, level), word = gpa & ~std::uint64_t{7};
    const std::uint64_t mask = mode().entry_mask() << 8 * (gpa & 7);
    spec.write_word(word, (spec.read_word(word) & ~mask) | (value << 8 * (gpa & 7) & mask));
  }
  // The guest's own store.
  Verdict store_entry(std::uint64_t gva, unsigned level, std::uint64_t value) {
    return write(at(gva, level), value, Writer::kGuest, mode().entry_bytes);
  }
  // What an entry above the leaf holds: PAE's PDPTEs have no rights and no A.
  std::uint64_t upper(unsigned level, std::uint64_t bits = kPwua) const {
    const bool pdpte = mode().mode == Mode::kPae && level == 3;
    return table(level - 1) | (pdpte ? pte::kP : bits);
  }
  // All entries down to a leaf at `level`; PDPTE registers are loaded.
  void map_at(std::uint64_t gva, unsigned level, std::uint64_t leaf) {
    for (unsigned l = mode().levels; l > level; --l) put(gva, l, upper(l));
    put(gva, level, leaf);
    if (mode().mode == Mode::kPae) load_pdptes();
  }
  Verdict load_pdptes() { return mov(Reg::kCr3, spec.registers(0).cr3); }

  AccessQuery ask(AccessKind kind, std::uint64_t gva) const {
    return {gva, static_cast<std::uint8_t>(size), kind, implicit, 0, spec.registers(0)};
  }
  // "ok gpa=0x5000", "#PF ec=..."; what the fresh walk says.
  std::string fresh_text(AccessKind kind, std::uint64_t gva) const {
    Outcome o = fresh(kind, gva, size);
    o.value = 0;
    return to_text(o);
  }
  std::string access_ok(AccessKind kind, std::uint64_t gva) {
    return says(access_fresh(kind, gva));
  }
  std::string read_through(std::uint64_t gva, std::uint64_t gpa) {
    return says(access(AccessKind::kRead, gva, through(AccessKind::kRead, gva, gpa)));
  }
};

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_MODE_BED_H_
