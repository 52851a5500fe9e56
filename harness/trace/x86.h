#ifndef TWINWALK_HARNESS_TRACE_X86_H_
#define TWINWALK_HARNESS_TRACE_X86_H_

// The trace's own words for architectural bits: one table a register, read by
// parser, printer and report. A position stands here and nowhere else outside
// mmu_core (which has its own, so that a mistake is not shared).

#include <cstdint>
#include <span>
#include <string_view>

namespace twinwalk {

struct BitName {
  std::string_view name;
  std::uint64_t mask;
};

constexpr std::uint64_t bit(unsigned n) { return std::uint64_t{1} << n; }

// Paging-structure entries, SDM 3A "Paging" §"4-Level Paging and 5-Level Paging".
namespace pte {
inline constexpr std::uint64_t kP = bit(0), kW = bit(1), kU = bit(2), kPwt = bit(3), kPcd = bit(4),
                               kA = bit(5), kD = bit(6), kPs = bit(7), kG = bit(8),
                               kPatLarge = bit(12), kXd = bit(63);
inline constexpr unsigned kPkeyShift = 59;
inline constexpr std::uint64_t kPkeyMask = std::uint64_t{15} << kPkeyShift;
inline constexpr std::uint64_t kAddressMask = 0x000f'ffff'ffff'f000;
inline constexpr BitName kNames[] = {{"p", kP},     {"w", kW},  {"u", kU}, {"pwt", kPwt},
                                     {"pcd", kPcd}, {"a", kA},  {"d", kD}, {"ps", kPs},
                                     {"g", kG},     {"xd", kXd}};
}  // namespace pte

namespace cr0 {
inline constexpr std::uint64_t kPe = bit(0), kMp = bit(1), kEm = bit(2), kTs = bit(3), kEt = bit(4),
                               kNe = bit(5), kWp = bit(16), kAm = bit(18), kNw = bit(29),
                               kCd = bit(30), kPg = bit(31);
inline constexpr BitName kNames[] = {{"pe", kPe}, {"mp", kMp}, {"em", kEm}, {"ts", kTs},
                                     {"et", kEt}, {"ne", kNe}, {"wp", kWp}, {"am", kAm},
                                     {"nw", kNw}, {"cd", kCd}, {"pg", kPg}};
}  // namespace cr0

namespace cr3 {
inline constexpr std::uint64_t kPcidMask = 0xfff, kNoFlush = bit(63);
inline constexpr BitName kNames[] = {{"noflush", kNoFlush}};
}  // namespace cr3

namespace cr4 {
inline constexpr std::uint64_t kPse = bit(4), kPae = bit(5), kMce = bit(6), kPge = bit(7),
                               kLa57 = bit(12), kPcide = bit(17), kSmep = bit(20), kSmap = bit(21),
                               kPke = bit(22);
inline constexpr BitName kNames[] = {{"pse", kPse},   {"pae", kPae},   {"mce", kMce},
                                     {"pge", kPge},   {"la57", kLa57}, {"pcide", kPcide},
                                     {"smep", kSmep}, {"smap", kSmap}, {"pke", kPke}};
}  // namespace cr4

namespace efer {
inline constexpr std::uint64_t kSce = bit(0), kLme = bit(8), kLma = bit(10), kNxe = bit(11),
                               kSvme = bit(12), kTce = bit(15);
inline constexpr BitName kNames[] = {{"sce", kSce}, {"lme", kLme},   {"lma", kLma},
                                     {"nxe", kNxe}, {"svme", kSvme}, {"tce", kTce}};
}  // namespace efer

// Page-fault error code, SDM 3A "Page-Fault Exceptions".
namespace pfec {
inline constexpr std::uint32_t kP = 1, kW = 2, kU = 4, kRsvd = 8, kI = 16, kPk = 32;
inline constexpr BitName kNames[] = {{"p", kP},       {"w", kW}, {"u", kU},
                                     {"rsvd", kRsvd}, {"i", kI}, {"pk", kPk}};
}  // namespace pfec

// EPT paging-structure entries, SDM 3C §"The Extended Page Table Mechanism (EPT)". A memory type
// fills bits 5:3 of a leaf.
namespace ept {
inline constexpr std::uint64_t kR = bit(0), kW = bit(1), kX = bit(2), kUc = 0, kWc = 1 << 3,
                               kWt = 4 << 3, kWp = 5 << 3, kWb = 6 << 3, kTypeMask = 7 << 3,
                               kIpat = bit(6), kPs = bit(7), kA = bit(8), kD = bit(9),
                               kUx = bit(10), kSve = bit(63);
inline constexpr BitName kNames[] = {
    {"r", kR},       {"w", kW},   {"x", kX}, {"wb", kWb}, {"wp", kWp}, {"wt", kWt},  {"wc", kWc},
    {"ipat", kIpat}, {"ps", kPs}, {"a", kA}, {"d", kD},   {"ux", kUx}, {"sve", kSve}};
}  // namespace ept

// EPTP, SDM 3C §"Extended-Page-Table Pointer (EPTP)": memory type of the tables in bits 2:0, levels
// less one in 5:3.
namespace eptp {
inline constexpr std::uint64_t kWb = 6, kTypeMask = 7, k4Level = 3 << 3, k5Level = 4 << 3,
                               kLevelsMask = 7 << 3, kAd = bit(6), kSss = bit(7);
inline constexpr BitName kNames[] = {
    {"wb", kWb}, {"4-level", k4Level}, {"5-level", k5Level}, {"ad", kAd}};
}  // namespace eptp

// Exit qualification of an EPT violation, SDM 3C §"Basic VM-Exit Information".
namespace eqx {
inline constexpr std::uint64_t kRead = bit(0), kWrite = bit(1), kFetch = bit(2), kReadable = bit(3),
                               kWritable = bit(4), kExecutable = bit(5), kUserExecutable = bit(6),
                               kGvaValid = bit(7), kFinal = bit(8), kGuestUser = bit(9),
                               kGuestWritable = bit(10), kGuestNx = bit(11),
                               kNmiUnblocking = bit(12);
inline constexpr BitName kNames[] = {
    {"read", kRead},        {"write", kWrite},  {"fetch", kFetch},       {"r", kReadable},
    {"w", kWritable},       {"x", kExecutable}, {"ux", kUserExecutable}, {"gva", kGvaValid},
    {"final", kFinal},      {"gu", kGuestUser}, {"gw", kGuestWritable},  {"gxd", kGuestNx},
    {"nmi", kNmiUnblocking}};
}  // namespace eqx

// Error code of a nested page fault (EXITINFO1), APM 2 §"Nested versus Guest Page Faults, Fault
// Ordering": that of a page fault, and which walk it was.
namespace npfec {
inline constexpr std::uint64_t kFinal = bit(32), kTable = bit(33);
inline constexpr BitName kNames[] = {{"p", pfec::kP},       {"w", pfec::kW}, {"u", pfec::kU},
                                     {"rsvd", pfec::kRsvd}, {"i", pfec::kI}, {"final", kFinal},
                                     {"table", kTable}};
}  // namespace npfec

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_TRACE_X86_H_
