#ifndef TWINWALK_HARNESS_PROCESSOR_NESTED_FORMAT_H_
#define TWINWALK_HARNESS_PROCESSOR_NESTED_FORMAT_H_

// The second dimension's tables as data: Intel's EPT, SDM 3C §"The Extended Page Table Mechanism
// (EPT)", and AMD's NPT, APM 2 §"Nested Paging", which are the host's own page tables.

#include <cstdint>

#include "harness/trace/machine.h"

namespace twinwalk::processor {

// On the way to a page: the AND over the entries.
struct NestedRights {
  bool read = true, write = true;
  bool execute = true;       // from a supervisor-mode linear address; without MBEC from any
  bool user_execute = true;  // from a user-mode one
};

class NestedFormat {
 public:
  enum class Kind : std::uint8_t { kNone, kEpt, kNpt };
  static constexpr unsigned kLargest = 3;  // level of a 1G page

  // Of EPT or NPT on that machine: what it supports, and the host's MAXPHYADDR.
  void reset(Kind kind, const Machine& machine);

  Kind kind() const { return kind_; }
  // By the EPTP or nCR3: levels, first table, whether accessed and dirty flags are on.
  unsigned levels(std::uint64_t pointer) const {
    return kind_ == Kind::kEpt ? static_cast<unsigned>(pointer >> 3 & 7) + 1 : npt_levels_;
  }
  std::uint64_t root(std::uint64_t pointer) const;
  bool flags_on(std::uint64_t pointer) const {
    return kind_ == Kind::kNpt || (kind_ == Kind::kEpt && (pointer >> 6 & 1));
  }
  // Whether VM entry takes it. SDM 3C §"Checks on VM-Execution Control Fields".
  bool takes(std::uint64_t pointer) const;
  // No table translates addresses above.
  std::uint64_t reach(std::uint64_t pointer) const;

  bool present(std::uint64_t entry) const { return entry & presence_; }
  // Precondition: present. EPT: misconfigured; NPT: a reserved bit.
  bool bad(std::uint64_t entry, unsigned level, unsigned levels) const;
  bool is_leaf(std::uint64_t entry, unsigned level) const {
    return level == 1 || (level <= kLargest && (entry >> 7 & 1));
  }
  NestedRights rights(std::uint64_t entry, unsigned level, unsigned levels) const;
  std::uint64_t accessed() const { return accessed_; }
  std::uint64_t dirty() const { return dirty_; }
  bool has_flags(unsigned level, unsigned levels) const { return !is_pdpte(level, levels); }
  bool mbec() const { return mbec_; }

 private:
  // The four of a PAE host: no rights, no flags.
  bool is_pdpte(unsigned level, unsigned levels) const { return levels == 3 && level == 3; }
  bool ept_bad(std::uint64_t entry, unsigned level) const;
  bool npt_bad(std::uint64_t entry, unsigned level, unsigned levels) const;

  Kind kind_ = Kind::kNone;
  std::uint64_t presence_ = 0, accessed_ = 0, dirty_ = 0, above_ = 0;
  bool mbec_ = false, exec_only_ = false, flags_ = false, nxe_ = false, five_ = false;
  bool large_[kLargest + 1] = {};  // [level]
  std::uint8_t npt_levels_ = 4;
};

}  // namespace twinwalk::processor

#endif  // TWINWALK_HARNESS_PROCESSOR_NESTED_FORMAT_H_
