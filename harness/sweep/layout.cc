#include "harness/sweep/layout.h"

#include "harness/trace/content.h"

namespace twinwalk::sweep {
namespace {

constexpr unsigned index_bits(Mode mode) { return mode == Mode::k32Bit ? 10 : 9; }

// kTable has those below the root.
std::uint64_t table_of(Mode mode, unsigned level) {
  return level == levels_of(mode) ? kInitialCr3 : kTable[level];
}

std::uint64_t entry_gpa(Mode mode, unsigned level, std::uint64_t gva) {
  const unsigned bits = index_bits(mode);
  return table_of(mode, level) +
         ((gva >> (12 + bits * (level - 1))) & (bit(bits) - 1)) * (mode == Mode::k32Bit ? 4 : 8);
}

// The address bits of the entry at `level`: the next table, or the frame.
std::uint64_t address_of(const SweepCase& c, unsigned level) {
  return level == c.leaf_level ? kFrame[level] : kTable[level - 1];
}

std::uint64_t key_of(Mode mode) {
  return is_long(mode) ? std::uint64_t{kKey} << pte::kPkeyShift : 0;
}

}  // namespace

std::uint64_t low_gva(Mode mode) {
  switch (mode) {
    case Mode::kNone:
      return 0x305000;
    case Mode::k4Level:
      return 0x0000'1234'0020'5000;
    case Mode::k5Level:
      return 0x0012'1234'0020'5000;
    default:
      return 0x1220'5000;
  }
}

std::uint64_t high_gva(Mode mode) {
  switch (mode) {
    case Mode::kNone:
      return 0x305000;  // gva is gpa: memory is below
    case Mode::k4Level:
      return 0xffff'9234'0020'5000;
    case Mode::k5Level:
      return 0xff12'9234'0020'5000;
    default:
      return 0xd220'5000;
  }
}

void CaseWriter::begin(const SweepCase& c) {
  program_.machine = c.machine;
  program_.steps.clear();
  now_ = initial_registers(c.machine);
}

Op& CaseWriter::add(Verb verb) {
  const auto index = static_cast<std::uint32_t>(program_.steps.size());
  program_.steps.push_back({index, Op{}});
  Op& op = program_.steps.back().what;
  op.verb = verb;
  return op;
}

void CaseWriter::mov(Reg reg, std::uint64_t value) {
  Op& op = add(Verb::kMov);
  op.kind = static_cast<std::uint64_t>(reg);
  op.value = value;
  op.given = given_bit(Field::kKind) | given_bit(Field::kValue);
}

void CaseWriter::write_entry(Mode mode, std::uint64_t gpa, std::uint64_t value) {
  Op& op = add(Verb::kWrite);
  op.gpa = gpa;
  op.value = value;
  op.given = given_bit(Field::kGpa) | given_bit(Field::kValue);
  if (mode != Mode::k32Bit) return;
  op.size = 4;
  op.given |= given_bit(Field::kSize);
}

// The load of CR3 drops what is cached, and in PAE mode takes over the PDPTEs.
void CaseWriter::write_entries(const SweepCase& c) {
  const std::uint64_t last_page = 0xfff;
  const Mode mode = c.machine.mode;
  for (unsigned level = levels_of(mode); level >= c.leaf_level; --level) {
    std::uint64_t entry = c.entry[level] | address_of(c, level);
    if (level == c.leaf_level) entry |= key_of(mode) | (level > 1 ? pte::kPs : 0);
    write_entry(mode, entry_gpa(mode, level, c.gva), entry);
  }
  // The next page shares all tables with this one (its leaf index is not the last), if both are
  // canonical.
  const std::uint64_t next = (c.gva | last_page) + 1, last_index = bit(index_bits(mode)) - 1;
  if (mode != Mode::kNone && c.leaf_level == 1 && ((c.gva >> 12) & last_index) != last_index) {
    write_entry(mode, entry_gpa(mode, 1, next), c.second_leaf | kSecondFrame | key_of(mode));
  }
  mov(Reg::kCr3, kInitialCr3);
}

std::uint32_t CaseWriter::append(const SweepCase& c) {
  const Registers& want = c.registers;
  if (want.efer != now_.efer) mov(Reg::kEfer, want.efer);
  if (want.cr4 != now_.cr4) mov(Reg::kCr4, want.cr4);
  if (want.cr0 != now_.cr0) mov(Reg::kCr0, want.cr0);
  // PKRU can be written only while CR4.PKE=1, and is looked at only then.
  const bool pke = want.cr4 & cr4::kPke;
  if (pke && want.pkru != now_.pkru) mov(Reg::kPkru, want.pkru);
  if (want.cpl != now_.cpl) mov(Reg::kCpl, want.cpl);
  if (want.ac != now_.ac) mov(Reg::kAc, want.ac);
  const std::uint32_t kept = now_.pkru;
  now_ = want;
  if (!pke) now_.pkru = kept;

  Op& op = add(Verb::kAccess);
  op.gva = c.gva;
  op.kind = static_cast<std::uint64_t>(c.kind);
  op.size = c.size;
  op.implicit = c.implicit;
  op.given = given_bit(Field::kKind) | given_bit(Field::kGva);
  if (c.size != 8) op.given |= given_bit(Field::kSize);
  if (c.implicit) op.given |= given_bit(Field::kImplicit);
  const auto index = static_cast<std::uint32_t>(program_.steps.size() - 1);
  op.value = store_stamp(index);
  return index;
}

void CaseWriter::copy_to(Trace& out) const {
  out.clear();
  out.machine = program_.machine;
  for (const Step& s : program_.steps) out.ops.push_back(s.what);
}

}  // namespace twinwalk::sweep
