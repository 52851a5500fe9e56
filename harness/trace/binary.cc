#include "harness/trace/binary.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "harness/trace/parse.h"
#include "harness/trace/pools.h"
#include "harness/trace/print.h"
#include "harness/trace/schema.h"

namespace twinwalk {
namespace {

using Byte = std::uint8_t;
using Bytes = std::vector<Byte>;

// First bytes of an operation. Below kWeighted the verb itself, then verbs by weight, then
// prefixes.
constexpr unsigned kWeighted = static_cast<unsigned>(Verb::kCount);
constexpr unsigned kVcpuPrefix = 0xf0;   // .. 0xf7: vCPU in the two low bits
constexpr unsigned kPointPrefix = 0xf8;  // .. 0xff: yield point in the three low bits

struct Weight {
  Verb verb;
  unsigned count;
};
constexpr Weight kWeights[] = {
    {Verb::kAccess, 60},      {Verb::kWrite, 50},    {Verb::kMap, 30},    {Verb::kMov, 18},
    {Verb::kInvlpg, 14},      {Verb::kCpu, 4},       {Verb::kInvpcid, 4}, {Verb::kInvalidate, 4},
    {Verb::kRemap, 3},        {Verb::kProtect, 3},   {Verb::kAge, 2},     {Verb::kHugeSplit, 2},
    {Verb::kHugeCollapse, 2}, {Verb::kDirtyGet, 3},  {Verb::kSlotAdd, 2}, {Verb::kSlotDelete, 1},
    {Verb::kSlotMove, 1},     {Verb::kSlotFlags, 2}, {Verb::kReclaim, 2}, {Verb::kZapAll, 1},
    {Verb::kQuota, 1},        {Verb::kFailAlloc, 1}};

constexpr std::array<Verb, kVcpuPrefix> verb_table() {
  std::array<Verb, kVcpuPrefix> table{};
  unsigned i = 0;
  for (; i < kWeighted; ++i) table[i] = static_cast<Verb>(i);
  for (const Weight& w : kWeights) {
    for (unsigned n = 0; n < w.count; ++n) table[i++] = w.verb;
  }
  return i == kVcpuPrefix ? table : throw "the weights do not fill the table";
}
constexpr auto kVerbOf = verb_table();

// What decoding needs of a verb, made once.
struct Prototype {
  Op op;
  bool has_mask = false;
};

const std::array<Prototype, kWeighted>& prototypes() {
  static const auto table = [] {
    std::array<Prototype, kWeighted> t;
    for (unsigned v = 0; v < kWeighted; ++v) {
      t[v].op = make_op(static_cast<Verb>(v));
      for (const FieldInfo& f : schema_of(static_cast<Verb>(v)).fields) {
        t[v].has_mask |= f.presence != Presence::kRequired;
      }
    }
    return t;
  }();
  return table;
}

// --- bytes ---------------------------------------------------------------

class Reader {
 public:
  explicit Reader(std::span<const Byte> bytes) : next_(bytes.data()), end_(next_ + bytes.size()) {}
  bool empty() const { return next_ == end_; }
  std::size_t left() const { return static_cast<std::size_t>(end_ - next_); }
  bool ran_out() const { return ran_out_; }
  Byte byte() {
    if (next_ == end_) {
      ran_out_ = true;
      return 0;
    }
    return *next_++;
  }
  std::uint64_t number(unsigned bytes) {
    std::uint64_t value = 0;
    if constexpr (std::endian::native == std::endian::little) {
      if (left() >= bytes) {
        std::memcpy(&value, next_, bytes);
        next_ += bytes;
        return value;
      }
    }
    for (unsigned i = 0; i < bytes; ++i) value |= std::uint64_t{byte()} << (8 * i);
    return value;
  }
  std::string_view text(std::size_t size) {
    if (size > left()) size = left(), ran_out_ = true;
    const std::string_view out(reinterpret_cast<const char*>(next_), size);
    next_ += size;
    return out;
  }

 private:
  const Byte* next_;
  const Byte* end_;
  bool ran_out_ = false;
};

void put_number(Bytes& out, std::uint64_t value, unsigned bytes) {
  for (unsigned i = 0; i < bytes; ++i) out.push_back(static_cast<Byte>(value >> (8 * i)));
}

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
    if (!(rest & names[i].mask)) continue;
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
      if (!fits_a_byte(f)) return get_register(in, f.names, usual);
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

// The value that a register has at the start, if `f` is one.
std::uint64_t usual_of(const FieldInfo& f, const Op& op) {
  if (op.verb == Verb::kMov) return register_info(static_cast<Reg>(op.kind % kRegs)).usual;
  if (op.verb != Verb::kCpu) return 0;
  return register_info(
             static_cast<Reg>(static_cast<unsigned>(f.id) - static_cast<unsigned>(Field::kCr0)))
      .usual;
}
static_assert(static_cast<unsigned>(Field::kAc) - static_cast<unsigned>(Field::kCr0) + 1 == kRegs);

// --- operations ----------------------------------------------------------

void put_op(Bytes& out, const Op& op) {
  if (op.vcpu) out.push_back(static_cast<Byte>(kVcpuPrefix + op.vcpu));
  if (op.point != Point::kNone) {
    out.push_back(static_cast<Byte>(kPointPrefix + static_cast<unsigned>(op.point) - 1));
  }
  out.push_back(static_cast<Byte>(op.verb));
  const VerbInfo& verb = schema_of(op.verb);
  unsigned mask = 0, index = 0;
  for (const FieldInfo& f : verb.fields) {
    if (f.presence == Presence::kRequired) continue;
    if (says(op, f)) mask |= 1u << index;
    ++index;
  }
  if (index) out.push_back(static_cast<Byte>(mask));
  for (const FieldInfo& f : verb.fields) {
    if (!says(op, f)) continue;
    const std::uint64_t value = op.*f.member;
    if (f.kind == FieldKind::kRegisterValue) {
      const FieldInfo field = resolve(f, op);
      put_field(out, field, usual_of(field, op), make_legal(field, value));
    } else {
      put_field(out, f, usual_of(f, op), make_legal(f, value));
    }
  }
}

// Precondition: `in` is not empty. False if there were only prefixes.
bool get_op(Reader& in, unsigned vcpus, bool first, std::vector<Op>& ops) {
  unsigned vcpu = 0, point = 0, b = in.byte();
  while (b >= kVcpuPrefix) {
    if (b >= kPointPrefix)
      point = b - kPointPrefix + 1;
    else
      vcpu = b & 3;
    if (in.empty()) return false;
    b = in.byte();
  }
  const Verb v = kVerbOf[b];
  const Prototype& prototype = prototypes()[static_cast<std::size_t>(v)];
  ops.push_back(prototype.op);
  Op& op = ops.back();
  op.vcpu = static_cast<std::uint8_t>(vcpu < vcpus ? vcpu : vcpu % vcpus);
  if (!first) op.point = static_cast<Point>(point);
  const VerbInfo& verb = schema_of(v);
  unsigned mask = prototype.has_mask ? in.byte() : 0;
  for (const FieldInfo& f : verb.fields) {
    if (f.presence != Presence::kRequired) {
      const bool said = mask & 1;
      mask >>= 1;
      if (!said) continue;
    }
    op.given |= given_bit(f.id);
    if (f.kind == FieldKind::kRegisterValue) {
      const FieldInfo field = resolve(f, op);
      op.*f.member = get_field(in, field, usual_of(field, op));
    } else {
      op.*f.member = get_field(in, f, usual_of(f, op));
    }
  }
  return true;
}

// --- machine -------------------------------------------------------------
// Each field as its distance from the default, so that zeros are the default machine.

unsigned width(const MachineField& f) { return f.max - f.min > 0xff ? 2 : 1; }

void put_machine(Bytes& out, const Machine& machine) {
  const Machine usual;
  for (const MachineField& f : machine_fields()) {
    put_number(out, (f.get(machine) - f.min) ^ (f.get(usual) - f.min), width(f));
  }
}

void get_machine(Reader& in, Machine& machine) {
  const Machine usual;
  for (const MachineField& f : machine_fields()) {
    f.set(machine, make_legal(f, f.min + (in.number(width(f)) ^ (f.get(usual) - f.min))));
  }
  reconcile(machine);
}

void get_ops(Reader& in, std::size_t most, Trace& out) {
  while (!in.empty() && out.ops.size() < most) {
    if (!get_op(in, out.machine.vcpus, out.ops.empty(), out.ops)) return;
  }
}

// --- what people wrote (file form only) ----------------------------------

void put_text(Bytes& out, std::string_view text) {
  put_number(out, text.size(), 4);
  out.insert(out.end(), text.begin(), text.end());
}

std::string_view get_text(Reader& in) { return in.text(in.number(4)); }

void put_notes(Bytes& out, const Trace& trace) {
  put_text(out, trace.requires_line);
  put_number(out, trace.known.size(), 4);
  for (const std::string& id : trace.known) put_text(out, id);
  put_number(out, trace.comments.size(), 4);
  for (const auto& c : trace.comments) put_number(out, c.op, 4), put_text(out, c.text);
  put_number(out, trace.expectations.size(), 4);
  for (const auto& e : trace.expectations) put_number(out, e.op, 4), put_text(out, e.text);
}

void get_notes(Reader& in, Trace& out) {
  out.requires_line = get_text(in);
  for (std::uint64_t n = in.number(4); n && !in.ran_out(); --n)
    out.known.emplace_back(get_text(in));
  for (std::uint64_t n = in.number(4); n && !in.ran_out(); --n) {
    const auto op = static_cast<std::uint32_t>(in.number(4));
    out.comments.push_back({op, std::string(get_text(in))});
  }
  for (std::uint64_t n = in.number(4); n && !in.ran_out(); --n) {
    const auto op = static_cast<std::uint32_t>(in.number(4));
    out.expectations.push_back({op, std::string(get_text(in))});
  }
}

// Notes come from untrusted bytes: kept only if the trace still reads as itself with them. False if
// dropped.
bool check_notes(Trace& trace) {
  if (trace.requires_line.empty() && trace.known.empty() && trace.comments.empty() &&
      trace.expectations.empty()) {
    return true;
  }
  ParseResult again = parse(print(trace));
  if (again && again.trace == trace) return true;
  trace.requires_line.clear();
  trace.known.clear();
  trace.comments.clear();
  trace.expectations.clear();
  return false;
}

}  // namespace

bool has_binary_magic(std::span<const Byte> bytes) {
  return bytes.size() >= kBinaryMagic.size() &&
         std::memcmp(bytes.data(), kBinaryMagic.data(), kBinaryMagic.size()) == 0;
}

void encode_raw(const Trace& trace, Bytes& out) {
  out.clear();
  put_machine(out, trace.machine);
  for (const Op& op : trace.ops) put_op(out, op);
}

void encode(const Trace& trace, Bytes& out) {
  out.assign(kBinaryMagic.begin(), kBinaryMagic.end());
  out.push_back(kBinaryVersion);
  put_machine(out, trace.machine);
  put_number(out, trace.ops.size(), 4);
  for (const Op& op : trace.ops) put_op(out, op);
  put_notes(out, trace);
}

Decoded decode(std::span<const Byte> bytes, Trace& out) {
  out.clear();
  Decoded result;
  result.file_form = has_binary_magic(bytes) && bytes.size() > kBinaryMagic.size() &&
                     bytes[kBinaryMagic.size()] == kBinaryVersion;
  if (!result.file_form) {
    Reader in(bytes);
    get_machine(in, out.machine);
    get_ops(in, kMaxFuzzOps, out);
    return result;
  }
  Reader in(bytes.subspan(kBinaryMagic.size() + 1));
  get_machine(in, out.machine);
  const std::uint64_t count = in.number(4);
  get_ops(in, std::min<std::uint64_t>(count, kMaxOps), out);
  const bool all = out.ops.size() == count;
  if (all) get_notes(in, out);
  result.whole = all && check_notes(out) && !in.ran_out() && in.empty();
  return result;
}

}  // namespace twinwalk
