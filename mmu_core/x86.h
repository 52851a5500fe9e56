#ifndef MMU_CORE_X86_H_
#define MMU_CORE_X86_H_

// Architectural bit positions as the core knows them (SDM 3A "Paging", "Control Registers").

#include "mmu_core/bits.h"

namespace mmu {

namespace pte {
inline constexpr u64 kP = bit(0), kW = bit(1), kU = bit(2), kA = bit(5), kD = bit(6), kPs = bit(7),
                     kG = bit(8), kXd = bit(63);
using Pkey = Field<59, 62, u8>;
inline constexpr u64 kAddress = bits(12, 51);
}  // namespace pte

namespace cr0 {
inline constexpr u64 kPe = bit(0), kMp = bit(1), kEm = bit(2), kTs = bit(3), kEt = bit(4),
                     kNe = bit(5), kWp = bit(16), kAm = bit(18), kNw = bit(29), kCd = bit(30),
                     kPg = bit(31);
inline constexpr u64 kKnown = kPe | kMp | kEm | kTs | kEt | kNe | kWp | kAm | kNw | kCd | kPg;
}  // namespace cr0

namespace cr4 {
inline constexpr u64 kPse = bit(4), kPae = bit(5), kMce = bit(6), kPge = bit(7), kLa57 = bit(12),
                     kVmxe = bit(13), kPcide = bit(17), kSmep = bit(20), kSmap = bit(21),
                     kPke = bit(22);
}  // namespace cr4

namespace cr3 {
inline constexpr u64 kPcid = bits(0, 11), kNoFlush = bit(63);
// Where the root table is: 32-bit paging, PAE paging (32 bytes of PDPTEs), and the other modes.
inline constexpr u64 kTable32 = bits(12, 31), kTablePae = bits(5, 31), kTable = bits(12, 51);
// What a register of 32 bits has of it (SDM 3A "Control Registers").
inline constexpr u64 kLegacy = bits(0, 31);
}  // namespace cr3

namespace efer {
inline constexpr u64 kSce = bit(0), kLme = bit(8), kLma = bit(10), kNxe = bit(11), kSvme = bit(12),
                     kTce = bit(15);
}  // namespace efer

// Page-fault error code.
namespace pfec {
inline constexpr u32 kP = 1, kW = 2, kU = 4, kRsvd = 8, kI = 16, kPk = 32;
}  // namespace pfec

}  // namespace mmu

#endif  // MMU_CORE_X86_H_
