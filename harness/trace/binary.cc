#include "harness/trace/binary.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <string>
#include <utility>

#include "harness/trace/binary_notes.h"
#include "harness/trace/field_codec.h"
#include "harness/trace/schema.h"

namespace twinwalk {
namespace {

using binary::Byte;
using binary::Bytes;
using binary::get_field;
using binary::put_field;
using binary::put_number;
using binary::Reader;

// First bytes of an operation. Below kWeighted the verb itself, then verbs by weight, then
// prefixes.
constexpr unsigned kWeighted = static_cast<unsigned>(Verb::kCount);
constexpr unsigned kVcpuPrefix = 0xf0;   // .. 0xf5: vCPU in the two low bits
constexpr unsigned kPointPrefix = 0xf6;  // .. 0xff: the yield points
static_assert(kPointPrefix + static_cast<unsigned>(Point::kCount) - 2 == 0xff);

struct Weight {
  Verb verb;
  unsigned count;
};
constexpr Weight kWeights[] = {
    {Verb::kAccess, 50},      {Verb::kWrite, 45},    {Verb::kMap, 28},    {Verb::kMov, 18},
    {Verb::kInvlpg, 14},      {Verb::kCpu, 4},       {Verb::kInvpcid, 4}, {Verb::kInvalidate, 4},
    {Verb::kRemap, 3},        {Verb::kProtect, 3},   {Verb::kAge, 2},     {Verb::kHugeSplit, 2},
    {Verb::kHugeCollapse, 2}, {Verb::kDirtyGet, 3},  {Verb::kSlotAdd, 2}, {Verb::kSlotDelete, 1},
    {Verb::kSlotMove, 1},     {Verb::kSlotFlags, 2}, {Verb::kReclaim, 2}, {Verb::kZapAll, 1},
    {Verb::kQuota, 1},        {Verb::kFailAlloc, 1}, {Verb::kSregs, 2},   {Verb::kSmm, 2},
    {Verb::kInit, 1}};

constexpr unsigned sum_of_weights() {
  unsigned sum = 0;
  for (const Weight& w : kWeights) sum += w.count;
  return sum;
}
static_assert(kWeighted + sum_of_weights() == kVcpuPrefix, "the weights do not fill the table");

constexpr std::array<Verb, kVcpuPrefix> verb_table() {
  std::array<Verb, kVcpuPrefix> table{};
  unsigned i = 0;
  for (; i < kWeighted; ++i) table[i] = static_cast<Verb>(i);
  for (const Weight& w : kWeights) {
    for (unsigned n = 0; n < w.count; ++n) table[i++] = w.verb;
  }
  return table;
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

// The value that a register has at the start, if `f` is one whose bits are told from that.
std::uint64_t usual_of(const FieldInfo& f, const Op& op) {
  if (f.kind != FieldKind::kBits) return 0;
  if (op.verb == Verb::kMov) return register_info(static_cast<Reg>(op.kind % kRegs)).usual;
  if (op.verb == Verb::kCpuid && f.id == Field::kFlags) return feature::kUsual;
  if (op.verb != Verb::kCpu && op.verb != Verb::kSregs) return 0;
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

bool has_notes(const Trace& trace) {
  return !trace.requires_line.empty() || !trace.known.empty() || !trace.comments.empty() ||
         !trace.expectations.empty();
}

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
  result.whole =
      all && (!has_notes(out) || binary::keep_legal_notes(out)) && !in.ran_out() && in.empty();
  return result;
}

}  // namespace twinwalk
