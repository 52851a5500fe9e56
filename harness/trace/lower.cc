#include <cstddef>

#include "harness/trace/content.h"
#include "harness/trace/program.h"

namespace twinwalk {
namespace {

constexpr std::uint64_t kPageSize = 4096;
constexpr unsigned kRootLevel = 4;

// Lowest bit of the gva that an entry at `level` (1 = leaf table) translates.
constexpr unsigned shift_of(unsigned level) { return 12 + 9 * (level - 1); }

constexpr std::uint64_t entry_gpa(std::uint64_t table, std::uint64_t gva, unsigned level) {
  return table + ((gva >> shift_of(level)) & 511) * 8;
}

// The gva bits that choose a table whose entries have `level`.
constexpr std::uint64_t prefix_of(std::uint64_t gva, unsigned level) {
  return (gva & 0xffff'ffff'ffff) >> shift_of(level + 1);
}

constexpr std::uint64_t low_bytes(std::uint64_t value, std::uint64_t size) {
  return size >= 8 ? value : extract(value, 0, static_cast<unsigned>(size));
}

bool stores(const Op& op) {
  if (op.verb == Verb::kWrite) return true;
  return op.verb == Verb::kAccess &&
         (op.access() == AccessKind::kWrite || op.access() == AccessKind::kRmw);
}

Step& append(Program& out, std::uint32_t index, const Op& op) {
  out.steps.push_back({index, op});
  return out.steps.back();
}

}  // namespace

void Lowering::Table::clear() {
  used_ = 0;
  if (slots_.empty()) slots_.resize(256);
  if (++epoch_ == 0) {  // wrapped: old stamps would count again
    for (Slot& s : slots_) s.epoch = 0;
    epoch_ = 1;
  }
}

Lowering::Table::Slot& Lowering::Table::find(std::uint64_t key, std::uint64_t tag, bool& fresh) {
  if (2 * (used_ + 1) > slots_.size()) grow();
  const std::size_t mask = slots_.size() - 1;
  std::uint64_t h = (key ^ tag * 0xff51'afd7'ed55'8ccdu) * 0x9e37'79b9'7f4a'7c15u;
  std::size_t i = static_cast<std::size_t>(h ^ (h >> 32)) & mask;
  while (slots_[i].epoch == epoch_) {
    if (slots_[i].key == key && slots_[i].tag == tag) {
      fresh = false;
      return slots_[i];
    }
    i = (i + 1) & mask;
  }
  fresh = true;
  ++used_;
  slots_[i] = {key, tag, 0, epoch_};
  return slots_[i];
}

void Lowering::Table::grow() {
  std::vector<Slot> old(slots_.size() * 2);
  old.swap(slots_);
  used_ = 0;
  for (const Slot& s : old) {
    bool fresh;
    if (s.epoch == epoch_) find(s.key, s.tag, fresh).value = s.value;
  }
}

void Lowering::name_root(unsigned vcpu, std::uint64_t cr3) {
  const std::uint64_t root = cr3 & pte::kAddressMask;
  root_[vcpu % kMaxVcpus] = root;
  const std::uint64_t page = (root - kTablePool) / kPageSize;
  if (root >= kTablePool && page < kTablePoolPages) pool_roots_ |= bit(static_cast<unsigned>(page));
}

std::uint64_t Lowering::take_table_page() {
  static_assert(kTablePoolPages == 64, "pool_roots_ has one bit a page");
  if (pool_roots_ != ~std::uint64_t{0}) {
    while (pool_roots_ >> (next_ % kTablePoolPages) & 1) ++next_;
  }
  return kTablePool + next_++ % kTablePoolPages * kPageSize;
}

void Lowering::lower_cpu(std::uint32_t index, const Op& op, Program& out) {
  struct Part {
    Field field;
    Reg reg;
    std::uint64_t Op::*value;
  };
  static constexpr Part kOrder[] = {
      {Field::kEfer, Reg::kEfer, &Op::efer}, {Field::kCr4, Reg::kCr4, &Op::cr4},
      {Field::kCr3, Reg::kCr3, &Op::cr3},    {Field::kCr0, Reg::kCr0, &Op::cr0},
      {Field::kPkru, Reg::kPkru, &Op::pkru}, {Field::kCpl, Reg::kCpl, &Op::cpl},
      {Field::kAc, Reg::kAc, &Op::ac}};
  for (const Part& part : kOrder) {
    if (!op.gives(part.field) && op.*part.value == 0) continue;
    Op mov;
    mov.verb = Verb::kMov;
    mov.vcpu = op.vcpu;
    mov.point = op.point;
    mov.line = op.line;
    mov.kind = static_cast<std::uint64_t>(part.reg);
    mov.value = op.*part.value;
    mov.given = given_bit(Field::kKind) | given_bit(Field::kValue);
    append(out, index, mov);
    if (part.reg == Reg::kCr3) name_root(op.vcpu, mov.value);
  }
}

void Lowering::lower_map(std::uint32_t index, const Op& op, Program& out) {
  const unsigned leaf = op.size >= 1 && op.size <= 3 ? static_cast<unsigned>(op.size) : 1;

  Op write;
  write.verb = Verb::kWrite;
  write.vcpu = op.vcpu;
  write.point = op.point;
  write.line = op.line;
  write.by = op.by;
  write.size = 8;
  write.given = given_bit(Field::kGpa) | given_bit(Field::kValue) | given_bit(Field::kBy);

  const std::uint64_t root = root_[op.vcpu % kMaxVcpus];
  std::uint64_t table = root;
  bool fresh;
  for (unsigned level = kRootLevel; level > leaf; --level) {
    const std::uint64_t next_tag = prefix_of(op.gva, level - 1) << 3 | (level - 1);
    Table::Slot& next = tables_.find(root, next_tag, fresh);
    if (fresh) next.value = take_table_page();
    write.gpa = entry_gpa(table, op.gva, level);
    write.value = next.value | op.upper;
    table = next.value;
    Table::Slot& entry = entries_.find(write.gpa, 0, fresh);
    if (!fresh && entry.value == write.value) continue;
    entry.value = write.value;
    append(out, index, write);
  }
  const std::uint64_t in_page = bit(shift_of(leaf)) - 1;
  write.gpa = entry_gpa(table, op.gva, leaf);
  write.value = (op.gpa & pte::kAddressMask & ~in_page) | op.pte | (leaf > 1 ? pte::kPs : 0);
  entries_.find(write.gpa, 0, fresh).value = write.value;
  append(out, index, write);
}

void Lowering::begin(const Machine& machine, Program& out) {
  tables_.clear();
  entries_.clear();
  pool_roots_ = 0;
  next_ = 0;
  for (unsigned v = 0; v < kMaxVcpus; ++v) name_root(v, kInitialCr3);
  out.machine = machine;
  out.steps.clear();
}

void Lowering::add(std::uint32_t index, const Op& op, Program& out) {
  switch (op.verb) {
    case Verb::kCpu:
      lower_cpu(index, op, out);
      break;
    case Verb::kMap:
      lower_map(index, op, out);
      break;
    default: {
      const auto number = static_cast<std::uint32_t>(out.steps.size());
      Op& what = append(out, index, op).what;
      if (stores(op)) {
        if (!op.gives(Field::kValue) && op.value == 0) what.value = store_stamp(number);
        what.value = low_bytes(what.value, op.size);
        what.given |= given_bit(Field::kValue);
      } else if (op.verb == Verb::kMov && op.kind == static_cast<std::uint64_t>(Reg::kCr3)) {
        name_root(op.vcpu, op.value);
      }
    }
  }
}

void Lowering::lower(const Trace& trace, Program& out) {
  begin(trace.machine, out);
  for (std::size_t i = 0; i < trace.ops.size(); ++i) {
    add(static_cast<std::uint32_t>(i), trace.ops[i], out);
  }
}

}  // namespace twinwalk
