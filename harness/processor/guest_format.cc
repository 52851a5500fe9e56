#include "harness/processor/guest_format.h"

#include <algorithm>

namespace twinwalk::processor {
namespace {

constexpr std::uint64_t kXd = bit(63), kSize = bit(7), kBit8 = bit(8);

// Bits high:low; none if there are none.
constexpr std::uint64_t field(unsigned high, unsigned low) {
  return high < low ? 0 : (~std::uint64_t{0} >> (63 - high + low)) << low;
}

// Of the page directory's 4M pages alone. SDM 3A §"32-Bit Paging": PSE-36 has as many of bits 39:32
// of the address, in 20:13, as the processor has.
GuestReserved two_levels(const Machine& machine) {
  GuestReserved r;
  const unsigned width =
      machine.has(feature::kPse36) ? std::min<unsigned>(machine.maxphyaddr, 40) : 32;
  r.leaf[2] = field(21, width - 19);
  return r;
}

GuestReserved eight_bytes(const Machine& machine, const GuestFormat& format, bool nxe) {
  GuestReserved r;
  const bool pae = format.levels == 3;
  const std::uint64_t everywhere = field(pae ? 62 : 51, machine.maxphyaddr) | (nxe ? 0 : kXd);
  for (unsigned level = 1; level <= format.levels; ++level) {
    r.table[level] = r.leaf[level] = everywhere;
    // Bit 12 of a large page is PAT.
    if (level > 1) r.leaf[level] |= field(format.shift_of(level) - 1, 13);
    if (level > format.large) r.table[level] |= kSize;
    if (level > 3 && machine.vendor == Vendor::kAmd) r.table[level] |= kBit8;
  }
  if (!machine.has(feature::k1G)) r.leaf[3] |= kSize;
  // PDPTEs have no rights, and no XD. SDM 3A §"PAE Paging".
  if (pae) r.table[3] = field(63, machine.maxphyaddr) | field(8, 5) | field(2, 1);
  return r;
}

}  // namespace

std::uint64_t GuestFormat::frame_of(std::uint64_t entry, unsigned level) const {
  const std::uint64_t page = entry & kAddressBits & ~(bit(shift_of(level)) - 1);
  return entry_bytes == 4 && level == 2 ? page | (entry >> 13 & 0xff) << 32 : page;
}

GuestMode guest_mode(const Registers& r) {
  if (!(r.cr0 & cr0::kPg)) return kOff;
  if (!(r.cr4 & cr4::kPae)) return r.cr4 & cr4::kPse ? kTwoPse : kTwo;
  if (!(r.efer & efer::kLme)) return kThree;
  return r.cr4 & cr4::kLa57 ? kFive : kFour;
}

void GuestRules::reset(const Machine& machine) {
  for (unsigned nxe = 0; nxe < 2; ++nxe) {
    reserved_[kTwo][nxe] = GuestReserved{};
    reserved_[kTwoPse][nxe] = two_levels(machine);
    for (const GuestMode mode : {kThree, kFour, kFive})
      reserved_[mode][nxe] = eight_bytes(machine, kGuestFormats[mode], nxe != 0);
  }
}

}  // namespace twinwalk::processor
