#ifndef TWINWALK_ORACLE_TESTBED_H_
#define TWINWALK_ORACLE_TESTBED_H_

// For tests: drives a Spec step by step with outcomes made by hand.

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "harness/trace/content.h"
#include "oracle/spec.h"

namespace twinwalk::oracle {

inline constexpr std::uint64_t kPwu = pte::kP | pte::kW | pte::kU;
inline constexpr std::uint64_t kPwua = kPwu | pte::kA;
inline constexpr std::uint64_t kLeafUsed = kPwua | pte::kD;  // a leaf that was read and written

// How a verdict reads in tests: "ok", or "class/rule".
inline std::string says(const Verdict& v) {
  if (v.kind == VerdictKind::kAgree) return "ok";
  return std::string(v.kind == VerdictKind::kDiverge ? name_of(v.divergence) : name_of(v.kind)) +
         "/" + std::string(v.rule ? v.rule->id : "");
}

class Testbed {
 public:
  explicit Testbed(Profile profile = Profile::kKvm, const Machine& machine = Machine{});

  Spec spec;
  std::vector<std::uint64_t> extra;

  // Tables of the first 1 GiB of low addresses at fixed places: root, then one table a level.
  static constexpr std::uint64_t kRoot = kInitialCr3, kPdpt = 0x101000, kPd = 0x102000,
                                 kPt = 0x103000;
  // gpa of the entry at `level` for a gva below 2 MiB; at level 2 below 1 GiB, and so on.
  static std::uint64_t entry_gpa(std::uint64_t gva, unsigned level);
  // Sets the upper entries (p|w|u|a) and the 4K leaf of a gva below 2 MiB, before any access.
  void map(std::uint64_t gva, std::uint64_t leaf, std::uint64_t upper = kPwua);

  // One step each; the outcome is what the subject is said to have done.
  Verdict step(const Op& op, const Outcome& got);
  Verdict access(AccessKind kind, std::uint64_t gva, const Outcome& got, unsigned vcpu = 0);
  Verdict write(std::uint64_t gpa, std::uint64_t value, Writer by = Writer::kGuest,
                unsigned bytes = 8);
  Verdict mov(Reg reg, std::uint64_t value, OutcomeKind got = OutcomeKind::kDone);
  Verdict invlpg(std::uint64_t gva);
  Verdict invpcid(std::uint64_t type, std::uint64_t pcid, std::uint64_t gva,
                  OutcomeKind got = OutcomeKind::kDone);

  // What a subject without any cache does now, A and D and paths included.
  Outcome fresh(AccessKind kind, std::uint64_t gva, unsigned size = 8) const;
  Verdict access_fresh(AccessKind kind, std::uint64_t gva);
  // A load, store (with its value) through a translation to `gpa`; path: the entries as memory has
  // them now.
  Outcome through(AccessKind kind, std::uint64_t gva, std::uint64_t gpa) const;
  Outcome fault(std::uint64_t gva, std::uint32_t error_code) const;
  void fill_path(std::uint64_t gva, Path& path) const;

  unsigned size = 8;  // of the next accesses
  bool implicit = false;

 private:
  AccessQuery query(AccessKind kind, std::uint64_t gva) const;
  std::uint32_t index_ = 0;
};

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_TESTBED_H_
