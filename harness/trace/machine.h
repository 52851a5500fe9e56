#ifndef TWINWALK_HARNESS_TRACE_MACHINE_H_
#define TWINWALK_HARNESS_TRACE_MACHINE_H_

// The machine line of a trace: what processor, how much memory, how the
// simulated TLB behaves, and the core's own options.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "harness/trace/x86.h"

namespace twinwalk {

enum class Vendor : std::uint8_t { kIntel, kAmd };
// The word `core=`. kBare: there is no core, the trace itself is the hypervisor (`nested=` says by
// what means) and writes the second dimension's tables into physical memory.
enum class Dimension : std::uint8_t { kShadow, kEpt, kNpt, kBare };
enum class Nesting : std::uint8_t { kNone, kEpt, kNpt, kShadow };
enum class Mode : std::uint8_t { kNone, k32Bit, kPae, k4Level, k5Level };

// How long the simulated processor keeps what it may keep.
enum class TlbPolicy : std::uint8_t {
  kStale,  // keeps every entry until an architectural invalidation covers it
  kSmall,  // the same with a small capacity (machine word `tlb-entries=`), oldest out first
  kFresh,  // keeps nothing from one access to the next
};

// CPUID capabilities that paging looks at. One bit each; names in kFeatureNames.
namespace feature {
inline constexpr std::uint32_t kNx = 1u << 0, k1G = 1u << 1, kPge = 1u << 2, kPcid = 1u << 3,
                               kInvpcid = 1u << 4, kSmep = 1u << 5, kSmap = 1u << 6, kPku = 1u << 7,
                               kLa57 = 1u << 8, kPse = 1u << 9, kPse36 = 1u << 10, kPae = 1u << 11,
                               kSvm = 1u << 12;
inline constexpr std::uint32_t kAll = (1u << 13) - 1;
// What a machine has that does not say: neither changes what a 4-level guest sees.
inline constexpr std::uint32_t kUsual = kAll & ~(kLa57 | kSvm);
inline constexpr BitName kNames[] = {
    {"nx", kNx},       {"1g", k1G},     {"pge", kPge}, {"pcid", kPcid}, {"invpcid", kInvpcid},
    {"smep", kSmep},   {"smap", kSmap}, {"pku", kPku}, {"la57", kLa57}, {"pse", kPse},
    {"pse36", kPse36}, {"pae", kPae},   {"svm", kSvm}};
}  // namespace feature

// What the second dimension can do: IA32_VMX_EPT_VPID_CAP and the execution controls; for NPT the
// host's EFER.NXE and 1G pages. With core=ept the core uses all that is there.
namespace tdp {
inline constexpr std::uint32_t kAd = 1u << 0, kExecOnly = 1u << 1, k2M = 1u << 2, k1G = 1u << 3,
                               kMbec = 1u << 4, kPml = 1u << 5, kAdvanced = 1u << 6, kNxe = 1u << 7,
                               kPrivate = 1u << 8, kUnrestricted = 1u << 9, kExternal = 1u << 10;
inline constexpr std::uint32_t kAll = (1u << 11) - 1,
                               kUsual = kAll & ~(kMbec | kPrivate | kExternal);
inline constexpr BitName kNames[] = {
    {"ad", kAd},           {"xo", kExecOnly},      {"2m", k2M},
    {"1g", k1G},           {"mbec", kMbec},        {"pml", kPml},
    {"adv", kAdvanced},    {"nxe", kNxe},          {"private", kPrivate},
    {"ug", kUnrestricted}, {"external", kExternal}};
}  // namespace tdp

// Options of the core under test; each is a neutral change, so none may alter a verdict.
namespace option {
inline constexpr std::uint32_t kNoPrefetch = 1u << 0, kNoUnsync = 1u << 1, kNoLargePages = 1u << 2,
                               kExtraFlush = 1u << 3, kExtraZap = 1u << 4, kEagerSync = 1u << 5,
                               kNxHuge = 1u << 6, kEagerSplit = 1u << 7, kNoFastFault = 1u << 8,
                               kManualClear = 1u << 9, kInitiallySet = 1u << 10,
                               kDirtyRing = 1u << 11;
inline constexpr std::uint32_t kAll = (1u << 12) - 1;
inline constexpr BitName kNames[] = {{"no-prefetch", kNoPrefetch},
                                     {"no-unsync", kNoUnsync},
                                     {"no-large-pages", kNoLargePages},
                                     {"extra-flush", kExtraFlush},
                                     {"extra-zap", kExtraZap},
                                     {"eager-sync", kEagerSync},
                                     {"nx-huge", kNxHuge},
                                     {"eager-split", kEagerSplit},
                                     {"no-fast-fault", kNoFastFault},
                                     {"manual-clear", kManualClear},
                                     {"initially-set", kInitiallySet},
                                     {"dirty-ring", kDirtyRing}};
}  // namespace option

struct Machine {
  Vendor vendor = Vendor::kIntel;
  Dimension core = Dimension::kShadow;
  Nesting nested = Nesting::kNone;
  std::uint8_t maxphyaddr = 40;       // the guest's, bits; 36..52
  std::uint8_t host_maxphyaddr = 46;  // the host's, bits; >= maxphyaddr
  std::uint32_t features = feature::kUsual;
  std::uint32_t memory_mib = 64;  // memslot 0: gpa [0, memory), 2..1024, even
  std::uint8_t vcpus = 1;         // 1..4
  TlbPolicy tlb = TlbPolicy::kStale;
  std::uint16_t tlb_entries = 8;     // for kSmall; 1..256
  std::uint8_t host_page_level = 1;  // how the host backs slot memory: 1 = 4K, 2 = 2M, 3 = 1G
  std::uint32_t options = 0;         // option::*
  std::uint16_t quota = 0;           // most shadow pages in use; 0 = the core's default
  Mode mode = Mode::k4Level;         // in which every vCPU starts
  // Least levels of the table that the hardware walks, 3..5. A guest outside long mode has 3: the
  // PAE table of a processor in legacy mode; with 4 or 5 its roots hang below tables of the host's.
  // The second dimension's tables have so many: EPT 4 or 5, NPT 3 (PAE) to 5.
  std::uint8_t host_levels = 3;
  std::uint32_t tdp = tdp::kUsual;  // tdp::*; with core=ept or npt, and with nested=
  friend bool operator==(const Machine&, const Machine&) = default;
  bool has(std::uint32_t f) const { return (features & f) == f; }
  std::uint64_t memory_bytes() const { return std::uint64_t{memory_mib} << 20; }
};

// A machine with core=ept and tdp=private: the bit of a guest-physical address that selects shared
// memory, the highest one that its guest has. 0: there is only one kind of memory.
constexpr std::uint64_t shared_bit(const Machine& m) {
  if (m.core != Dimension::kEpt || !(m.tdp & tdp::kPrivate)) return 0;
  const unsigned translated = m.host_levels == 5 ? 57 : 48;
  return bit((m.maxphyaddr < translated ? m.maxphyaddr : translated) - 1);
}
// With tdp=external, too: the tables of private memory are a module's, as those of TDX are.
constexpr bool has_module(const Machine& m) {
  return shared_bit(m) != 0 && (m.tdp & tdp::kExternal) != 0;
}
// So many ranges of private memory a hypervisor is able to keep; it refuses to make more.
inline constexpr std::size_t kMostPrivateRanges = 64;

// A machine with core=ept and tdp=-ug: its hypervisor keeps a page of its own in the guest's
// memory, the map on which a guest without paging runs. No memslot may be there, and what the guest
// makes of it is undefined.
inline constexpr std::uint64_t kIdentityMap = 0xfffb'c000;
constexpr bool has_identity_map(const Machine& m) {
  return m.core == Dimension::kEpt && !(m.tdp & tdp::kUnrestricted);
}
constexpr bool in_identity_map(const Machine& m, std::uint64_t gpa) {
  return has_identity_map(m) && gpa >> 12 == kIdentityMap >> 12;
}

// Where the guest and the host keep things at the start of every trace.
// The root table; `map` takes new tables from above it. Memslot 0 is in both address spaces.
inline constexpr std::uint64_t kInitialCr3 = 0x100000;
inline constexpr std::uint64_t kTablePool = 0x100000;  // gpa of the first table page
inline constexpr std::uint64_t kTablePoolPages = 64;   // `map` takes no more than these, then wraps
// `ept-map` and `npt-map` take the second dimension's tables from here, the root first.
inline constexpr std::uint64_t kNestedPool = 0x140000;
inline constexpr std::uint64_t kNestedPoolPages = 64;
inline constexpr std::uint64_t kHvaBase = 0x7f00'0000'0000;  // slot 0: hva = kHvaBase + gpa
inline constexpr unsigned kMaxVcpus = 4;
inline constexpr unsigned kMaxSlots = 8;  // in one address space
inline constexpr unsigned kSpaces = 2;    // 0: outside SMM, 1: inside

// The registers that decide a translation, as each vCPU starts in a 4-level machine at CPL 0;
// initial_registers() gives those of its mode.
struct Registers {
  std::uint64_t cr0 = cr0::kPe | cr0::kEt | cr0::kNe | cr0::kWp | cr0::kPg;
  std::uint64_t cr3 = kInitialCr3;
  std::uint64_t cr4 = cr4::kPae;
  std::uint64_t efer = efer::kLme | efer::kLma | efer::kNxe;  // NXE only if the machine has nx
  std::uint32_t pkru = 0;
  std::uint8_t cpl = 0;
  bool ac = false;
  friend bool operator==(const Registers&, const Registers&) = default;
};
Registers initial_registers(const Machine& machine);

// The paging mode that CR0, CR4 and EFER select, SDM 3A "Paging Modes and Control Bits".
Mode mode_of(std::uint64_t cr0, std::uint64_t cr4, std::uint64_t efer);

std::string_view name_of(Vendor);
std::string_view name_of(Dimension);
std::string_view name_of(Nesting);
std::string_view name_of(Mode);
std::string_view name_of(TlbPolicy);

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_TRACE_MACHINE_H_
