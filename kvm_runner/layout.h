#ifndef TWINWALK_KVM_RUNNER_LAYOUT_H_
#define TWINWALK_KVM_RUNNER_LAYOUT_H_

// Where the runner's own code, stacks and tables live beside a trace that owns all of memory and
// all of the linear space. Everything here is out of bounds for a trace on these subjects (the
// steps that come near are Skip). `base` is chosen for each program (place.h).
//
//              gpa base .. + 2 MiB, in a memslot of its own: the harness pages below
//   linear     IA-32e mode                            else
//              entry 511 of every root: with 4        addresses are those of the gpa, so that they
//              levels 0xffffff80'0000'0000 and up,    stay where paging goes on or off: base is
//              below with 5 levels 0xffff0000'0000'0000     4 GiB, and reached through the one
//              PDPTE (1 GiB) and up                                 or PDE (4 MiB) of the root that
//              it lies in
//   pages      0xffffffff'8000'0000                   base
//   window     0xffffffff'8020'0000                   base + 2 MiB; without paging none is needed
//
// The window shows single guest frames, for stores "by=guest".
//
// In each root that a vCPU uses one entry is replaced by entry_of(); what the trace has there is
// kept beside it (trace_memory.h). All entries of the harness have A and D set, so that the
// processor never writes to them; none has XD, so that they are valid with EFER.NXE = 0.

#include <cstdint>

#include "harness/trace/machine.h"
#include "harness/trace/x86.h"

namespace twinwalk::kvm {

inline constexpr std::uint64_t kPage = 4096;
inline constexpr unsigned kRootIndex = 511;  // in IA-32e mode
inline constexpr std::uint64_t kRootEntryOffset = kRootIndex * 8;

// This and everything above.
constexpr std::uint64_t reserved_linear(unsigned levels) {
  return levels == 5 ? 0xffff'0000'0000'0000 : 0xffff'ff80'0000'0000;
}

// Below 2^36, the smallest MAXPHYADDR: for programs that never leave IA-32e mode.
inline constexpr std::uint64_t kHighBase = 0xe'5400'0000;
// Of traces that are a hypervisor, if they and their guests never leave it: what they map is in
// another entry of nested roots. Below 2^40, what emulated processors have.
inline constexpr std::uint64_t kNestedBase = 0x80'5400'0000;
inline constexpr std::uint64_t kHarnessSpan = 2 << 20;  // reserved; not all of it is backed
inline constexpr std::uint64_t kHarnessLinear = 0xffff'ffff'8000'0000;
inline constexpr std::uint64_t kWindowOffset = kHarnessSpan;  // from the pages
inline constexpr unsigned kWindowTables = 4;
inline constexpr unsigned kWindowPages = kWindowTables * 512;
inline constexpr unsigned kWindowPages32 = 512;  // of them, in 32-bit mode

// KVM memslot numbers; those of the trace are 0 .. kMaxSlots-1.
inline constexpr unsigned kHarnessSlot = 32, kSpareSlot = 33;

// Pages of the harness, in units of 4 KiB.
namespace harness_page {
inline constexpr unsigned kPml4 = 0, kPdpt = 1, kPd = 2, kPt = 3, kWindowPt = 4,
                          kPdPae = kWindowPt + kWindowTables, kPt32 = kPdPae + 1, kIdt = kPt32 + 1,
                          kCode = kIdt + 1,  // supervisor
    kUserCode = kCode + 1,                   // user
    kCode32 = kUserCode + 1,                 // the same of 32-bit code
    kUserCode32 = kCode32 + 1,               //
    kPerCpu = kUserCode32 + 1,               //
    kPagesPerCpu = 2,                        // GDT, TSSs and INVPCID descriptor; then stack
    // Of a hypervisor (nested/): tables, and for each vCPU the VMCB and where VMRUN saves the host.
    kNestedPml4 = kPerCpu + kPagesPerCpu * kMaxVcpus, kNestedPdpt = kNestedPml4 + 1,
                          kNestedPd = kNestedPdpt + 1, kHypervisorRoot = kNestedPd + 1,
                          kGuestRoot = kHypervisorRoot + 1, kVmcb = kGuestRoot + 1,
                          kHostSave = kVmcb + kMaxVcpus, kBatchCode = kHostSave + kMaxVcpus,
                          kBatch = kBatchCode + 1,  // BatchPage (batch_page.h)
    kBatchWords = kBatch + 1,
                          kSpare = kBatchWords + 1,  // backs kSpareSlot
    kCount = kSpare + 1;
}  // namespace harness_page
static_assert(harness_page::kCount * kPage <= kHarnessSpan);

inline constexpr std::uint64_t kTableBits = pte::kP | pte::kW | pte::kU | pte::kA | pte::kD;

// The runner's entry in a root.
struct RunnerEntry {
  std::uint64_t offset = 0, value = 0;
  unsigned bytes = 0;  // 0: there is none, paging is off
};

struct Layout {
  std::uint64_t base = kHighBase;  // aligned to 4 MiB; below 4 GiB for programs that need it

  bool serves_legacy() const { return base >> 32 == 0; }
  constexpr std::uint64_t gpa(unsigned page) const { return base + page * kPage; }
  constexpr std::uint64_t linear(bool long_mode, unsigned page) const {
    return (long_mode ? kHarnessLinear : base) + page * kPage;
  }
  constexpr bool overlaps(std::uint64_t at, std::uint64_t bytes) const {
    return at < base + kHarnessSpan && base < at + bytes;
  }

  constexpr RunnerEntry entry_of(Mode mode) const {
    const std::uint64_t bits = kTableBits & ~pte::kD;
    switch (mode) {
      case Mode::kNone:
        return {};
      case Mode::k32Bit:
        return {(base >> 22) * 4, gpa(harness_page::kPt32) | bits, 4};
      case Mode::kPae:  // SDM 3A §"PDPTE Registers": bits 2:1 and 8:5 are reserved
        return {(base >> 30) * 8, gpa(harness_page::kPdPae) | pte::kP, 8};
      case Mode::k4Level:
        return {kRootEntryOffset, gpa(harness_page::kPdpt) | bits, 8};
      case Mode::k5Level:
        return {kRootEntryOffset, gpa(harness_page::kPml4) | bits, 8};
    }
    return {};
  }
  // Whether the byte at that linear address of the mode is out of bounds.
  constexpr bool reserves(Mode mode, std::uint64_t gva) const {
    switch (mode) {
      case Mode::kNone:
        return gva - base < kHarnessSpan;
      case Mode::k32Bit:
        return gva >> 22 == base >> 22;
      case Mode::kPae:
        return gva >> 30 == base >> 30;
      case Mode::k4Level:
        return gva >= reserved_linear(4);
      case Mode::k5Level:
        return gva >= reserved_linear(5);
    }
    return true;
  }
};

// The entry of a root with that many levels, where only the processor's own 64-bit mode is used.
constexpr std::uint64_t root_entry(unsigned levels) {
  return Layout{}.entry_of(levels == 5 ? Mode::k5Level : Mode::k4Level).value;
}
inline constexpr std::uint64_t kRootEntry = root_entry(4);

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_LAYOUT_H_
