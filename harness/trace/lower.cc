#include <cstddef>

#include "harness/trace/content.h"
#include "harness/trace/program.h"

namespace twinwalk {
namespace {

constexpr std::uint64_t kPageSize = 4096;
// The tables of a paging mode. Level 1 is the leaf table.
struct Format {
  unsigned levels;
  unsigned entry_bytes;
  unsigned index_bits;         // of the gva, by a table below the root
  unsigned largest;            // level of the largest page
  std::uint64_t address_bits;  // of an entry

  // Lowest bit of the gva that an entry at `level` translates.
  unsigned shift_of(unsigned level) const { return 12 + index_bits * (level - 1); }
  std::uint64_t entry_gpa(std::uint64_t table, std::uint64_t gva, unsigned level) const {
    return table + ((gva >> shift_of(level)) & (bit(index_bits) - 1)) * entry_bytes;
  }
};

// SDM 3A §"Paging-Mode Modifiers" and the sections on each mode.
constexpr Format format_of(Mode mode) {
  switch (mode) {
    case Mode::kNone:
      return {};
    case Mode::k32Bit:
      return {2, 4, 10, 2, 0xffff'f000};
    case Mode::kPae:
      return {3, 8, 9, 2, pte::kAddressMask};
    case Mode::k4Level:
      return {4, 8, 9, 3, pte::kAddressMask};
    case Mode::k5Level:
      return {5, 8, 9, 3, pte::kAddressMask};
  }
  return {};
}

// The bits of a gva that its translation looks at.
constexpr std::uint64_t linear(Mode mode, std::uint64_t gva) {
  return gva & (bit(mode == Mode::k5Level ? 57 : mode == Mode::k4Level ? 48 : 32) - 1);
}

// The leaf's address field, and PS. In a PDE of 32-bit paging bits 39:32 of the frame are in 20:13:
// SDM 3A §"32-Bit Paging".
std::uint64_t leaf_address(const Format& format, unsigned level, std::uint64_t gpa) {
  const std::uint64_t in_page = bit(format.shift_of(level)) - 1;
  std::uint64_t address = gpa & format.address_bits & ~in_page;
  if (format.entry_bytes == 4 && level == 2) address |= (gpa >> 32 & 0xff) << 13;
  return address | (level > 1 ? pte::kPs : 0);
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
  return out.steps.emplace_back(index, op);
}

void append_mov(std::uint32_t index, const Op& op, Reg reg, std::uint64_t value, Program& out) {
  Op mov;
  mov.verb = Verb::kMov;
  mov.vcpu = op.vcpu;
  mov.point = op.point;
  mov.line = op.line;
  mov.kind = static_cast<std::uint64_t>(reg);
  mov.value = value;
  mov.given = given_bit(Field::kKind) | given_bit(Field::kValue);
  append(out, index, mov);
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

// What is mapped, and by what tables.
struct Lowering::Mapping {
  Format format;
  std::uint64_t root, address, target;
  unsigned leaf;           // level
  std::uint64_t kind;      // of table: below 8, different for formats that may share a root
  std::uint64_t top_bits;  // of `upper=`, those that entries of the top level get
};

void Lowering::TablePool::name_root(std::uint64_t root) {
  const std::uint64_t page = (root - base) / kPageSize;
  if (root >= base && page < kTablePoolPages) roots |= bit(static_cast<unsigned>(page));
}

void Lowering::write_register(const Op& op, Reg reg, std::uint64_t value) {
  FollowedRegisters& registers = registers_[op.vcpu % kMaxVcpus];
  registers.write(reg, value);
  if (reg == Reg::kCr3) pool_.name_root(registers.root());
}

std::uint64_t Lowering::TablePool::take() {
  static_assert(kTablePoolPages == 64 && kNestedPoolPages == 64, "roots has one bit a page");
  if (roots != ~std::uint64_t{0}) {
    while (roots >> (next % kTablePoolPages) & 1) ++next;
  }
  return base + next++ % kTablePoolPages * kPageSize;
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
    append_mov(index, op, part.reg, op.*part.value, out);
    write_register(op, part.reg, op.*part.value);
  }
}

// Remembers an entry that `map` writes; false if it is what `map` last wrote there. No upper entry
// is 0, so that a half which no one wrote is none.
bool Lowering::note_written(const Op& write) {
  bool fresh;
  Table::Slot& word = entries_.find(write.gpa & ~std::uint64_t{7}, 0, fresh);
  const std::uint64_t mask = (write.size == 8 ? ~std::uint64_t{0} : 0xffff'ffffu)
                             << (8 * (write.gpa & 7));
  const std::uint64_t value = write.value << (8 * (write.gpa & 7));
  if (!fresh && (word.value & mask) == value) return false;
  word.value = (word.value & ~mask) | value;
  return true;
}

bool Lowering::write_tables(std::uint32_t index, const Op& op, const Mapping& m, TablePool& pool,
                            Program& out) {
  const Format& format = m.format;
  Op write;
  write.verb = Verb::kWrite;
  write.vcpu = op.vcpu;
  write.point = op.point;
  write.line = op.line;
  write.by = op.by;
  write.size = format.entry_bytes;
  write.given = given_bit(Field::kGpa) | given_bit(Field::kValue) | given_bit(Field::kBy);
  if (write.size != 8) write.given |= given_bit(Field::kSize);

  pool.name_root(m.root);
  std::uint64_t table = m.root;
  bool top_written = false;
  for (unsigned level = format.levels; level > m.leaf; --level) {
    const bool top = level == format.levels;
    const std::uint64_t tag =
        (m.address >> format.shift_of(level)) << 6 | m.kind << 3 | (level - 1);
    bool fresh;
    Table::Slot& next = tables_.find(m.root, tag, fresh);
    if (fresh) next.value = pool.take();
    write.gpa = format.entry_gpa(table, m.address, level);
    write.value =
        low_bytes(next.value | (top ? op.upper & m.top_bits : op.upper), format.entry_bytes);
    table = next.value;
    if (!note_written(write)) continue;
    top_written |= top;
    append(out, index, write);
  }
  write.gpa = format.entry_gpa(table, m.address, m.leaf);
  write.value = low_bytes(leaf_address(format, m.leaf, m.target) | op.pte, format.entry_bytes);
  note_written(write);
  append(out, index, write);
  return top_written;
}

constexpr unsigned leaf_of(const Format& format, std::uint64_t asked) {
  const unsigned level = asked >= 1 && asked <= 3 ? static_cast<unsigned>(asked) : 1;
  return level < format.largest ? level : format.largest;
}

void Lowering::lower_map(std::uint32_t index, const Op& op, Program& out) {
  const FollowedRegisters& registers = registers_[op.vcpu % kMaxVcpus];
  const Mode mode = registers.mode();
  const Format format = format_of(mode);
  if (format.levels == 0) return;
  const bool pae = mode == Mode::kPae;
  const bool top_written = write_tables(
      index, op,
      {format, registers.root(), linear(mode, op.gva), op.gpa, leaf_of(format, op.size),
       static_cast<std::uint64_t>(mode), pae ? pte::kP : ~std::uint64_t{0}},
      pool_, out);
  if (pae && top_written) append_mov(index, op, Reg::kCr3, registers.cr3(), out);
}

// SDM 3C §"EPT Translation Mechanism"; APM 2 §"Nested Paging": the host's own paging mode.
void Lowering::lower_nested_map(std::uint32_t index, const Op& op, Program& out) {
  constexpr std::uint64_t kEptTables = 6, kNptTables = 7;  // modes are below
  const bool ept = op.verb == Verb::kEptMap;
  const unsigned levels = out.machine.host_levels;
  const Format format = format_of(levels == 5          ? Mode::k5Level
                                  : levels == 4 || ept ? Mode::k4Level
                                                       : Mode::kPae);
  const std::uint64_t address_bits = bit(12 + 9 * format.levels) - 1;
  write_tables(
      index, op,
      {format, op.cr3 & pte::kAddressMask, op.gva & address_bits, op.gpa, leaf_of(format, op.size),
       ept ? kEptTables : kNptTables, format.levels == 3 ? pte::kP : ~std::uint64_t{0}},
      nested_pool_, out);
}

void Lowering::begin(const Machine& machine, Program& out) {
  tables_.clear();
  entries_.clear();
  pool_.restart();
  nested_pool_.restart();
  pool_.name_root(kInitialCr3);
  nested_pool_.name_root(kNestedPool);
  for (FollowedRegisters& registers : registers_) registers.reset(machine);
  out.machine = machine;
  out.steps.clear();
}

// What the operation does to the registers that decide how a later `map` is lowered.
void Lowering::follow(const Op& op, const Machine& machine) {
  FollowedRegisters& registers = registers_[op.vcpu % kMaxVcpus];
  switch (op.verb) {
    case Verb::kMov:
      return write_register(op, op.reg(), op.value);
    case Verb::kSregs:
      registers.set(op);
      return pool_.name_root(registers.root());
    case Verb::kInit:
      return registers.init();
    case Verb::kNewVcpu:
      return registers.reset(machine);
    case Verb::kCpuid:
      if (op.gives(Field::kFlags)) {
        for (FollowedRegisters& r : registers_)
          r.set_features(static_cast<std::uint32_t>(op.flags));
      }
      return;
    default:
      return;
  }
}

void Lowering::add(std::uint32_t index, const Op& op, Program& out) {
  switch (op.verb) {
    case Verb::kCpu:
      lower_cpu(index, op, out);
      break;
    case Verb::kMap:
      lower_map(index, op, out);
      break;
    case Verb::kEptMap:
    case Verb::kNptMap:
      lower_nested_map(index, op, out);
      break;
    default: {
      const auto number = static_cast<std::uint32_t>(out.steps.size());
      Op& what = append(out, index, op).what;
      if (stores(op)) {
        if (!op.gives(Field::kValue) && op.value == 0) what.value = store_stamp(number);
        what.value = low_bytes(what.value, op.size);
        what.given |= given_bit(Field::kValue);
      } else {
        follow(op, out.machine);
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
