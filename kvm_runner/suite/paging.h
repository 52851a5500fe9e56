#ifndef TWINWALK_KVM_RUNNER_SUITE_PAGING_H_
#define TWINWALK_KVM_RUNNER_SUITE_PAGING_H_

// What a row of the conformance suite has to know of a paging mode, so that one function makes its
// traces for every mode.

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "harness/trace/machine.h"
#include "kvm_runner/conform.h"

namespace twinwalk::suite {

using Cases = std::vector<ConformCase>;

struct Paging {
  Mode mode;
  unsigned levels, entry_bytes, index_bits;
  const char* cr4;    // what CR4 has at the start, as text
  const char* efer;   // and EFER, but for NXE
  const char* large;  // how names call the page of a level-2 entry
  bool long_mode;     // so that XD, 64-bit addresses and tags are there

  bool off() const { return levels == 0; }
  bool has_xd() const { return entry_bytes == 8; }
  unsigned shift(unsigned level) const { return 12 + index_bits * (level - 1); }
  // The table that the first `map` of a trace takes for that level.
  std::uint64_t table(unsigned level) const { return kInitialCr3 + (levels - level) * 0x1000; }
  // Of the entry for gva in a table of that level.
  std::uint64_t offset(unsigned level, std::uint64_t gva) const {
    return (gva >> shift(level) & (bit(index_bits) - 1)) * entry_bytes;
  }
  // A store of the entry for gva in the table that the first `map` took; a PDPTE of PAE paging is
  // loaded by CR3, too. `value` is text.
  std::string edit(unsigned level, std::uint64_t gva, std::string_view value,
                   std::string_view rest = "") const;
  // A store of an entry at `gpa`.
  std::string store(std::uint64_t gpa, std::string_view value, std::string_view rest = "") const;
  // "value|p|w|u": an entry that leads to `gpa`.
  static std::string entry(std::uint64_t gpa, std::string_view bits = "p|w|u");
};
const Paging& paging_of(Mode mode);

// A trace in that mode; `machine`: further words of its machine line.
ConformCase text_case(const Paging& paging, std::string name, std::string_view body,
                      std::string_view machine = "");
// The same body for CPL 0 and CPL 3; `$` stands for the ring.
void add_both_rings(Cases& cases, const Paging& paging, const std::string& name,
                    std::string_view body, std::string_view machine = "");
std::string joined(std::initializer_list<std::string_view> parts);
// One access of every kind.
std::string every_kind(std::uint64_t gva, int cpl);

}  // namespace twinwalk::suite

#endif  // TWINWALK_KVM_RUNNER_SUITE_PAGING_H_
