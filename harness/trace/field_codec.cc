#include "harness/trace/field_codec.h"

#include <optional>

#include "harness/trace/pools.h"

namespace twinwalk::binary {
namespace {

// --- numbers -------------------------------------------------------------
// Below kPower the number itself; 16 << low nibble; then whole.

constexpr unsigned kPower = 0xe0, kWhole = 0xf0;

std::uint64_t get_count(Reader& in) {
  const unsigned s = in.byte();
  if (s < kPower) return s;
  return s < kWhole ? std::uint64_t{16} << (s & 15) : in.number(8);
}

void put_count(Bytes& out, std::uint64_t value) {
  if (value < kPower) return out.push_back(static_cast<Byte>(value));
  for (unsigned n = 0; n < 16; ++n) {
    if (value == std::uint64_t{16} << n) return out.push_back(static_cast<Byte>(kPower + n));
  }
  out.push_back(kWhole);
  put_number(out, value, 8);
}

// --- addresses -----------------------------------------------------------
// A page selector and one byte of offset: in units of `grain` from the page's start, or from its
// end.

constexpr std::uint64_t kPageSize = 4096;

std::uint64_t near_offset(Byte b, unsigned grain) {
  return b < 0x80 ? std::uint64_t{b} * 8 : kPageSize - std::uint64_t{0x100u - b} * grain;
}

std::optional<Byte> near_byte(std::uint64_t offset, unsigned grain) {
  if (offset < 0x80 * 8 && offset % 8 == 0) return static_cast<Byte>(offset / 8);
  const std::uint64_t from_end = kPageSize - offset;
  if (from_end <= 0x80 * grain && from_end % grain == 0) {
    return static_cast<Byte>(0x100 - from_end / grain);
  }
  return std::nullopt;
}

std::uint64_t get_address(Reader& in, const pool::Groups& groups, unsigned grain) {
  const Byte s = in.byte();
  if (s == pool::kEscapeWhole) return in.number(8);
  if (s == pool::kEscapeOffset) {
    const std::uint64_t page = pool::page(groups, in.byte());
    return page + in.number(2) % kPageSize;
  }
  return pool::page(groups, s) + near_offset(in.byte(), grain);
}

void put_address(Bytes& out, const pool::Groups& groups, unsigned grain, std::uint64_t value) {
  const auto s = pool::selector(groups, value & ~(kPageSize - 1));
  const std::uint64_t offset = value % kPageSize;
  if (!s) {
    out.push_back(pool::kEscapeWhole);
    return put_number(out, value, 8);
  }
  if (const auto near = near_byte(offset, grain)) {
    out.push_back(*s);
    return out.push_back(*near);
  }
  out.push_back(pool::kEscapeOffset);
  out.push_back(*s);
  put_number(out, offset, 2);
}

// --- entries -------------------------------------------------------------
// Bits 7:0 as they are, then one byte: G, XD, the key in four bits, and one of kRareBits; or the
// whole entry.

constexpr unsigned kWholeEntry = 0xf0;
constexpr std::uint64_t kRareBits[] = {0, pte::kPatLarge, bit(11), bit(45)};

std::uint64_t get_entry_bits(Reader& in) {
  const unsigned low = in.byte(), high = in.byte();
  if (high >= kWholeEntry) return in.number(8);
  return low | (high & 1 ? pte::kG : 0) | (high & 2 ? pte::kXd : 0) |
         std::uint64_t{high >> 2 & 15} << pte::kPkeyShift | kRareBits[high >> 6];
}

void put_entry_bits(Bytes& out, std::uint64_t value) {
  const auto key = static_cast<unsigned>((value & pte::kPkeyMask) >> pte::kPkeyShift);
  const std::uint64_t rest = value & ~(std::uint64_t{0xff} | pte::kG | pte::kXd | pte::kPkeyMask);
  for (unsigned rare = 0; rare < 4; ++rare) {
    const unsigned high =
        (value & pte::kG ? 1 : 0) | (value & pte::kXd ? 2 : 0) | key << 2 | rare << 6;
    if (rest != kRareBits[rare] || high >= kWholeEntry) continue;
    out.push_back(static_cast<Byte>(value));
    return out.push_back(static_cast<Byte>(high));
  }
  out.push_back(0);
  out.push_back(kWholeEntry);
  put_number(out, value, 8);
}

// Data or an entry. Below kSmallData a gpa page selector and entry bits, then small numbers, then
// the other page selectors, then the whole value.
constexpr unsigned kSmallData = 0x80, kFarEntry = 0xc0, kWholeData = 0xf0;
constexpr std::uint64_t kSmallNumbers = kFarEntry - kSmallData;

std::uint64_t get_data(Reader& in) {
  const unsigned s = in.byte();
  if (s >= kWholeData) return in.number(8);
  if (s >= kSmallData && s < kFarEntry) return s - kSmallData;
  const unsigned page = s < kSmallData ? s : s - kFarEntry + kSmallData;
  return pool::page(pool::kGpa, page) | get_entry_bits(in);
}

void put_data(Bytes& out, std::uint64_t value) {
  if (value < kSmallNumbers) return out.push_back(static_cast<Byte>(kSmallData + value));
  const auto s = pool::selector(pool::kGpa, value & pte::kAddressMask);
  if (s && *s < kSmallData + (kWholeData - kFarEntry)) {
    out.push_back(*s < kSmallData ? *s : static_cast<Byte>(*s - kSmallData + kFarEntry));
    return put_entry_bits(out, value & ~pte::kAddressMask);
  }
  out.push_back(kWholeData);
  put_number(out, value, 8);
}

// --- registers -----------------------------------------------------------
// Two bytes: which of the named bits differ from the value that the register has at the start.

constexpr unsigned kMostNames = 12;
constexpr std::uint64_t kWholeRegister = 0xf000;

std::uint64_t get_register(Reader& in, std::span<const BitName> names, std::uint64_t usual) {
  const std::uint64_t m = in.number(2);
  if (m >= kWholeRegister) return in.number(8);
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (m >> i & 1) usual ^= names[i].mask;
  }
  return usual;
}

void put_register(Bytes& out, std::span<const BitName> names, std::uint64_t usual,
                  std::uint64_t value) {
  std::uint64_t m = 0, rest = value ^ usual;
  for (std::size_t i = 0; i < names.size() && i < kMostNames; ++i) {
    if ((rest & names[i].mask) != names[i].mask) continue;
    m |= bit(static_cast<unsigned>(i));
    rest &= ~names[i].mask;
  }
  if (!rest) return put_number(out, m, 2);
  put_number(out, kWholeRegister, 2);
  put_number(out, value, 8);
}

// A gpa page selector, then noflush and seven bits of PCID.
std::uint64_t get_root(Reader& in) {
  const unsigned s = in.byte();
  if (s >= pool::kEscapeOffset) return in.number(8);
  const unsigned tag = in.byte();
  return pool::page(pool::kGpa, s) | (tag & 0x7f) | (tag & 0x80 ? cr3::kNoFlush : 0);
}

void put_root(Bytes& out, std::uint64_t value) {
  const auto s = pool::selector(pool::kGpa, value & pte::kAddressMask);
  if (!s || value & ~(pte::kAddressMask | cr3::kNoFlush | 0x7f)) {
    out.push_back(pool::kEscapeWhole);
    return put_number(out, value, 8);
  }
  out.push_back(*s);
  out.push_back(static_cast<Byte>((value & 0x7f) | (value & cr3::kNoFlush ? 0x80 : 0)));
}

// --- fields --------------------------------------------------------------

constexpr unsigned kGvaGrain = 1, kGpaGrain = 8;

bool fits_a_byte(const FieldInfo& f) { return f.max <= 0xff; }

}  // namespace

void put_number(Bytes& out, std::uint64_t value, unsigned bytes) {
  for (unsigned i = 0; i < bytes; ++i) out.push_back(static_cast<Byte>(value >> (8 * i)));
}

std::uint64_t get_field(Reader& in, const FieldInfo& f, std::uint64_t usual) {
  switch (f.kind) {
    case FieldKind::kGva:
      return get_address(in, pool::kGva, kGvaGrain);
    case FieldKind::kGpa:
      return get_address(in, pool::kGpa, kGpaGrain);
    case FieldKind::kHva:
      return kHvaBase + get_address(in, pool::kGpa, kGpaGrain);
    case FieldKind::kEntry:
      return get_entry_bits(in);
    case FieldKind::kData:
      return get_data(in);
    case FieldKind::kRoot:
      return get_root(in);
    case FieldKind::kPageLevel:
      return make_legal(f, in.byte() + std::uint64_t{1});
    case FieldKind::kBytes:
      return std::uint64_t{8} >> in.byte() % 4;
    case FieldKind::kBits:
      if (!fits_a_byte(f)) return make_legal(f, get_register(in, f.names, usual));
      [[fallthrough]];
    default:
      return make_legal(f, fits_a_byte(f) ? in.byte() : get_count(in));
  }
}

void put_field(Bytes& out, const FieldInfo& f, std::uint64_t usual, std::uint64_t value) {
  switch (f.kind) {
    case FieldKind::kGva:
      return put_address(out, pool::kGva, kGvaGrain, value);
    case FieldKind::kGpa:
      return put_address(out, pool::kGpa, kGpaGrain, value);
    case FieldKind::kHva:
      return put_address(out, pool::kGpa, kGpaGrain, value - kHvaBase);
    case FieldKind::kEntry:
      return put_entry_bits(out, value);
    case FieldKind::kData:
      return put_data(out, value);
    case FieldKind::kRoot:
      return put_root(out, value);
    case FieldKind::kPageLevel:
      return out.push_back(static_cast<Byte>(value - 1));
    case FieldKind::kBytes: {
      Byte shift = 0;
      while (std::uint64_t{8} >> shift > value) ++shift;
      return out.push_back(shift);
    }
    case FieldKind::kBits:
      if (!fits_a_byte(f)) return put_register(out, f.names, usual, value);
      [[fallthrough]];
    default:
      return fits_a_byte(f) ? out.push_back(static_cast<Byte>(value)) : put_count(out, value);
  }
}

}  // namespace twinwalk::binary
