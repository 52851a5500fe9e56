#ifndef TWINWALK_HARNESS_SWEEP_LAYOUT_H_
#define TWINWALK_HARNESS_SWEEP_LAYOUT_H_

// Where the sweep's tables and frames lie, and how a case becomes steps.

#include <cstdint>
#include <vector>

#include "harness/sweep/sweep_case.h"
#include "harness/trace/op.h"
#include "harness/trace/program.h"

namespace twinwalk::sweep {

inline constexpr unsigned kKey = 5;  // protection key of every leaf of a mode that has keys
// A linear address in the low and one in the high half of what the mode can say.
std::uint64_t low_gva(Mode mode);
std::uint64_t high_gva(Mode mode);
inline constexpr std::uint64_t kTable[6] = {0, 0x203000, 0x202000, 0x201000, 0x204000, 0};
// Frames of a leaf at a level. The 1G page is all of memory, so that its bytes lie away from the
// tables: gpa 0x205000.
inline constexpr std::uint64_t kFrame[4] = {0, 0x300000, 0x400000, 0};
inline constexpr std::uint64_t kSecondFrame = 0x310000;
// The page under test in two dimensions: its guest-physical address in the fourth gigabyte, or
// with long guests behind the first 512, and the same below 1 GiB in physical memory.
inline constexpr std::uint64_t kFarPage = 0xc060'5000;
std::uint64_t far_page(const SweepCase& c);

// Appends the operations that make a fresh machine into the case, one at a time.
class CaseWriter {
 public:
  // A new program on the case's machine.
  void begin(const SweepCase& c);
  // The entries of its path, and dropping what may be cached of them.
  void write_entries(const SweepCase& c);
  // Register writes where the case differs from the last one, then the access. Returns the access's
  // step.
  std::uint32_t append(const SweepCase& c);

  const Program& program() const { return program_; }
  // The same operations as a trace.
  void copy_to(Trace& out) const;

 private:
  Op& add(Verb verb);
  void mov(Reg reg, std::uint64_t value);
  void write_entry(Mode mode, std::uint64_t gpa, std::uint64_t value);
  void write_nested_entries(const SweepCase& c);
  void enter(const SweepCase& c);

  Program program_;
  Registers now_;
  bool in_guest_ = false;
};

}  // namespace twinwalk::sweep

#endif  // TWINWALK_HARNESS_SWEEP_LAYOUT_H_
