#ifndef TWINWALK_KVM_RUNNER_LAYOUT_H_
#define TWINWALK_KVM_RUNNER_LAYOUT_H_

// Where the runner's own code, stacks and tables live beside a trace that owns all of memory and
// all of the linear space. Everything here is out of bounds for a trace on these subjects (the
// steps that come near are Skip).
//
//   linear   entry 511 of every root: with 4 levels 0xffffff80'0000'0000 and up, with 5 levels
//            0xffff0000'0000'0000 and up
//              0xffffffff'8000'0000  the harness pages below, one to one
//              0xffffffff'8020'0000  window: single guest frames, for stores "by=guest"
//   gpa      kHarnessGpa .. + 2 MiB, in a memslot of its own
//
// Of each root that a vCPU uses, the last entry is replaced by kRootEntry; what the trace has there
// is kept beside it (roots.h). All entries of the harness have A and D set, so that the processor
// never writes to them; none has XD, so that they are valid with EFER.NXE = 0.

#include <cstdint>

#include "harness/trace/machine.h"
#include "harness/trace/x86.h"

namespace twinwalk::kvm {

inline constexpr std::uint64_t kPage = 4096;
inline constexpr unsigned kRootIndex = 511;
// This and everything above.
constexpr std::uint64_t reserved_linear(unsigned levels) {
  return levels == 5 ? 0xffff'0000'0000'0000 : 0xffff'ff80'0000'0000;
}
inline constexpr std::uint64_t kReservedLinear = reserved_linear(4);
inline constexpr std::uint64_t kRootEntryOffset = kRootIndex * 8;

inline constexpr std::uint64_t kHarnessGpa = 0xe'5400'0000;  // below 2^36, the smallest MAXPHYADDR
inline constexpr std::uint64_t kHarnessSpan = 2 << 20;       // reserved; not all of it is backed
inline constexpr std::uint64_t kHarnessLinear = 0xffff'ffff'8000'0000;
inline constexpr std::uint64_t kWindowLinear = 0xffff'ffff'8020'0000;
inline constexpr unsigned kWindowTables = 4;
inline constexpr unsigned kWindowPages = kWindowTables * 512;

// KVM memslot numbers; those of the trace are 0 .. kMaxSlots-1.
inline constexpr unsigned kHarnessSlot = 32, kSpareSlot = 33;

// Pages of the harness, in units of 4 KiB from kHarnessGpa and from kHarnessLinear.
namespace harness_page {
inline constexpr unsigned kPml4 = 0, kPdpt = 1, kPd = 2, kPt = 3, kWindowPt = 4,
                          kIdt = kWindowPt + kWindowTables,
                          kCode = kIdt + 1,       // supervisor
    kUserCode = kCode + 1,                        // user
    kPerCpu = kUserCode + 1, kPagesPerCpu = 2,    // GDT, TSS and INVPCID descriptor; then stack
    kSpare = kPerCpu + kPagesPerCpu * kMaxVcpus,  // backs kSpareSlot
    kCount = kSpare + 1;
}  // namespace harness_page
static_assert(harness_page::kCount * kPage <= kHarnessSpan);

constexpr std::uint64_t harness_gpa(unsigned page) { return kHarnessGpa + page * kPage; }
constexpr std::uint64_t harness_linear(unsigned page) { return kHarnessLinear + page * kPage; }

inline constexpr std::uint64_t kTableBits = pte::kP | pte::kW | pte::kU | pte::kA | pte::kD;
// The entry of a root with that many levels.
constexpr std::uint64_t root_entry(unsigned levels) {
  return harness_gpa(levels == 5 ? harness_page::kPml4 : harness_page::kPdpt) |
         (kTableBits & ~pte::kD);
}
inline constexpr std::uint64_t kRootEntry = root_entry(4);

constexpr bool overlaps_harness(std::uint64_t gpa, std::uint64_t bytes) {
  return gpa < kHarnessGpa + kHarnessSpan && kHarnessGpa < gpa + bytes;
}

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_LAYOUT_H_
