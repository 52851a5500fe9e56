#ifndef TWINWALK_ORACLE_NESTED_BED_H_
#define TWINWALK_ORACLE_NESTED_BED_H_

// For tests: a bare machine whose guest runs on EPT or NPT, with one table of each level of the
// second dimension at a fixed place. All of the first 2 MiB of guest-physical memory, where the
// guest's tables lie, is mapped one to one; kPage, above it, is for the test to map.

#include <string>

#include "oracle/mode_bed.h"
#include "oracle/nested_format.h"

namespace twinwalk::oracle {

inline constexpr std::uint64_t kRwx = ept::kR | ept::kW | ept::kX;
inline constexpr std::uint64_t kRwxWb = kRwx | ept::kWb;

inline Machine bare_machine(Nesting nesting, Mode mode = Mode::k4Level) {
  Machine m = machine_in(mode, nesting == Nesting::kNpt ? Vendor::kAmd : Vendor::kIntel);
  m.core = Dimension::kBare;
  m.host_maxphyaddr = m.maxphyaddr;
  m.nested = nesting;
  m.host_levels = 4;
  m.tdp = tdp::kUsual & ~tdp::kPml;
  return m;
}

class NestedBed : public ModeBed {
 public:
  static constexpr std::uint64_t kNestedRoot = kNestedPool;
  static constexpr std::uint64_t kPage = 0x600000;    // gpa: of the page under test
  static constexpr std::uint64_t kFrame = 0x3000000;  // and where it is, 2M-aligned
  static constexpr std::uint64_t kOther = 0x3400000;  // another such frame
  static constexpr std::uint64_t kGva = 0x400000;     // linear address of kPage

  explicit NestedBed(const Machine& machine)
      : ModeBed(machine, Profile::kArchitecture),
        machine_(machine),
        ept_(machine.nested == Nesting::kEpt) {
    for (unsigned l = levels(); l > 2; --l)
      put_nested(0, l, nested_table_at(l - 1) | upper_bits(l));
    // 2M page 0 one to one; the table of 4K pages for kPage.
    put_nested(0, 2, large());
    put_nested(kPage, 2, nested_table_at(1) | upper_bits(2));
    put_nested(kPage, 1, kFrame | leaf_bits());
  }
  NestedBed(Nesting nesting, Mode mode = Mode::k4Level) : NestedBed(bare_machine(nesting, mode)) {}

  unsigned levels() const { return machine_.host_levels < 4 && ept_ ? 4 : machine_.host_levels; }
  std::uint64_t eptp(bool flags = true) const {
    if (!ept_) return kNestedRoot;
    return kNestedRoot | eptp::kWb | (levels() == 5 ? eptp::k5Level : eptp::k4Level) |
           (flags ? eptp::kAd : 0);
  }
  std::uint64_t leaf_bits() const { return ept_ ? kRwxWb : kPwu; }
  std::uint64_t upper_bits(unsigned level) const {
    return ept_ ? kRwx : levels() == 3 && level == 3 ? std::uint64_t{pte::kP} : kPwu;
  }
  std::uint64_t large() const { return leaf_bits() | ept::kPs; }
  std::uint64_t nested_table_at(unsigned level) const {
    return kNestedRoot + std::uint64_t{levels() - level} * 0x1000;
  }
  std::uint64_t nested_at(std::uint64_t gpa, unsigned level) const {
    return nested_table_at(level) + (gpa >> NestedFormat::shift(level) & 511) * 8;
  }
  std::uint64_t nested(std::uint64_t gpa, unsigned level) const {
    return spec.read_word(nested_at(gpa, level));
  }
  // Before any access.
  void put_nested(std::uint64_t gpa, unsigned level, std::uint64_t value) {
    spec.write_word(nested_at(gpa, level), value);
  }
  // The hypervisor's store.
  Verdict store_nested(std::uint64_t gpa, unsigned level, std::uint64_t value) {
    return write(nested_at(gpa, level), value);
  }
  // The guest maps kGva to kPage.
  void map_guest(std::uint64_t leaf = kPage | kLeafUsed) { map_at(kGva, 1, leaf); }

  Verdict do_op(Verb verb, std::uint64_t root, unsigned vpid, unsigned type, std::uint64_t gva,
                OutcomeKind got) {
    Op op;
    op.verb = verb;
    op.value = root;
    op.pcid = vpid;
    op.type = type;
    op.gva = gva;
    Outcome o;
    o.kind = got;
    return step(op, o);
  }
  std::string enter(std::uint64_t root, unsigned vpid = 1, OutcomeKind got = OutcomeKind::kDone,
                    unsigned tlb = 0) {
    return says(do_op(Verb::kVmEnter, root, vpid, tlb, 0, got));
  }
  std::string enter(bool flags = true, unsigned vpid = 1) { return enter(eptp(flags), vpid); }
  std::string leave() { return says(do_op(Verb::kVmExit, 0, 0, 0, 0, OutcomeKind::kDone)); }
  std::string invept(unsigned type, std::uint64_t root, OutcomeKind got = OutcomeKind::kDone) {
    return says(do_op(Verb::kInvept, root, 0, type, 0, got));
  }
  std::string invvpid(unsigned type, unsigned vpid, std::uint64_t gva = 0,
                      OutcomeKind got = OutcomeKind::kDone) {
    return says(do_op(Verb::kInvvpid, 0, vpid, type, gva, got));
  }
  std::string invlpga(std::uint64_t gva, unsigned asid) {
    return says(do_op(Verb::kInvlpga, asid, 0, 0, gva, OutcomeKind::kDone));
  }

  // What the fresh walks give, as text without the value.
  std::string now(AccessKind kind, std::uint64_t gva = kGva) const { return fresh_text(kind, gva); }
  // An access that gave `got`.
  std::string ends(AccessKind kind, const Outcome& got, std::uint64_t gva = kGva) {
    return says(access(kind, gva, got));
  }
  static Outcome violation(std::uint64_t qualification, std::uint64_t gpa, std::uint64_t gva) {
    Outcome o;
    o.kind = OutcomeKind::kEptViolation;
    o.qualification = qualification;
    o.gpa[0] = gpa;
    o.cr2 = gva;
    return o;
  }
  static Outcome nested_fault(std::uint64_t code, std::uint64_t gpa) {
    Outcome o;
    o.kind = OutcomeKind::kNestedFault;
    o.qualification = code;
    o.gpa[0] = gpa;
    return o;
  }
  // A load from, or store to, kGva's page at `hpa`.
  Outcome at_frame(std::uint64_t hpa, AccessKind kind = AccessKind::kRead) const {
    Outcome o;
    o.kind = OutcomeKind::kOk;
    o.gpa[0] = hpa;
    if (kind != AccessKind::kWrite) o.value = spec.read_word(hpa);
    return o;
  }
  std::string reads_at(std::uint64_t hpa, std::uint64_t gva = kGva) {
    return ends(AccessKind::kRead, at_frame(hpa), gva);
  }

 private:
  const Machine machine_;
  const bool ept_;
};

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_NESTED_BED_H_
