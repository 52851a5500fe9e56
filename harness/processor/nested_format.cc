#include "harness/processor/nested_format.h"

namespace twinwalk::processor {
namespace {

constexpr std::uint64_t kAddress = 0x000f'ffff'ffff'f000;

constexpr bool has(std::uint64_t entry, unsigned n) { return entry >> n & 1; }
constexpr std::uint64_t field(unsigned high, unsigned low) {
  return (~std::uint64_t{0} >> (63 - high + low)) << low;
}
constexpr unsigned shift_of(unsigned level) { return 12 + 9 * (level - 1); }

}  // namespace

void NestedFormat::reset(Kind kind, const Machine& machine) {
  *this = NestedFormat{};
  kind_ = kind;
  const auto can = [&machine](std::uint32_t what) { return (machine.tdp & what) != 0; };
  above_ = kAddress & ~(bit(machine.host_maxphyaddr) - 1);
  const bool ept = kind == Kind::kEpt;
  mbec_ = ept && can(tdp::kMbec);
  exec_only_ = can(tdp::kExecOnly);
  flags_ = can(tdp::kAd);
  nxe_ = can(tdp::kNxe);
  five_ = machine.host_levels == 5;
  npt_levels_ = machine.host_levels;
  presence_ = ept ? (mbec_ ? bit(10) : 0) | 7 : 1;
  accessed_ = bit(ept ? 8 : 5);
  dirty_ = bit(ept ? 9 : 6);
  large_[2] = !ept || can(tdp::k2M);
  // Outside IA-32e mode PS in a PDPTE is reserved: npt_bad.
  large_[3] = can(tdp::k1G);
}

std::uint64_t NestedFormat::root(std::uint64_t pointer) const {
  return kind_ == Kind::kNpt && npt_levels_ == 3 ? pointer & 0xffff'ffe0 : pointer & kAddress;
}

bool NestedFormat::takes(std::uint64_t pointer) const {
  if (kind_ != Kind::kEpt) return true;
  const std::uint64_t type = pointer & 7, length = pointer >> 3 & 7;
  if (type != 0 && type != 6) return false;
  if (length != 3 && !(length == 4 && five_)) return false;
  if (has(pointer, 6) && !flags_) return false;
  return (pointer & (field(11, 7) | field(63, 52) | above_)) == 0;
}

std::uint64_t NestedFormat::reach(std::uint64_t pointer) const {
  const unsigned levels = this->levels(pointer);
  return bit(levels == 3 ? 32 : 12 + 9 * levels) - 1;
}

// SDM 3C §"EPT Misconfigurations".
bool NestedFormat::ept_bad(std::uint64_t entry, unsigned level) const {
  const bool read = has(entry, 0);
  if (!read && has(entry, 1)) return true;
  const bool execute = has(entry, 2) || (mbec_ && has(entry, 10));
  if (!read && execute && !exec_only_) return true;
  if (entry & above_) return true;
  if (!is_leaf(entry, level)) return entry & field(level > kLargest ? 7 : 6, 3);
  if (level > 1 && (!large_[level] || (entry & field(shift_of(level) - 1, 12)))) return true;
  const unsigned type = entry >> 3 & 7;
  return type == 2 || type == 3 || type == 7;
}

// The host's own paging. APM 2 §"Legacy PAE Paging", §"Long-Mode Page Translation".
bool NestedFormat::npt_bad(std::uint64_t entry, unsigned level, unsigned levels) const {
  if (entry & above_) return true;
  if (is_pdpte(level, levels)) return entry & (field(63, 52) | field(8, 5) | field(2, 1));
  if (!nxe_ && has(entry, 63)) return true;
  if (levels == 3 && (entry & field(62, 52))) return true;
  if (level > kLargest) return has(entry, 7) || has(entry, 8);
  if (level == 1 || !has(entry, 7)) return false;
  return !large_[level] || (entry & field(shift_of(level) - 1, 13));
}

bool NestedFormat::bad(std::uint64_t entry, unsigned level, unsigned levels) const {
  return kind_ == Kind::kEpt ? ept_bad(entry, level) : npt_bad(entry, level, levels);
}

// Every access of a nested walk is a user's: U=0 takes all. APM 2 §"Nested versus Guest Page
// Faults, Fault Ordering".
NestedRights NestedFormat::rights(std::uint64_t entry, unsigned level, unsigned levels) const {
  if (kind_ == Kind::kEpt)
    return {has(entry, 0), has(entry, 1), has(entry, 2), has(entry, mbec_ ? 10 : 2)};
  if (is_pdpte(level, levels)) return {};
  const bool user = has(entry, 2), execute = user && !has(entry, 63);
  return {user, user && has(entry, 1), execute, execute};
}

}  // namespace twinwalk::processor
