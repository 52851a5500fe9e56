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
  const bool leaf = level == c.leaf_level;
  if (c.machine.nested != Nesting::kNone && c.target == (leaf ? 0u : level - 1)) return far_page(c);
  return leaf ? kFrame[level] : kTable[level - 1];
}

// Of the second dimension: tables of the pages that are mapped one to one, and of the path of the
// page under test. A level's table is that of both where they share the entry above.
constexpr std::uint64_t kNestedTable[6] = {0, 0x143000, 0x142000, 0x141000, 0x148000, 0};
constexpr std::uint64_t kSecondNestedTable = 0x144000;  // for [2M, 4M)
constexpr std::uint64_t kFarTable[6] = {0, 0x147000, 0x146000, 0x145000, 0, 0};

constexpr std::uint64_t index_at(std::uint64_t gpa, unsigned level) {
  return gpa >> (12 + 9 * (level - 1)) & 511;
}
// The page's physical address has the low bits of its guest-physical one.
constexpr std::uint64_t kFarFrame = kFarPage & (bit(30) - 1);

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

std::uint64_t far_page(const SweepCase& c) {
  const bool wide = is_long(c.machine.mode) && nested_levels(c.machine) >= 4;
  return kFarPage | (wide ? bit(39) : 0);
}

void CaseWriter::begin(const SweepCase& c) {
  in_guest_ = false;
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
  const bool nested = c.machine.nested != Nesting::kNone;
  if (in_guest_) add(Verb::kVmExit);
  in_guest_ = false;
  const Mode mode = c.machine.mode;
  for (unsigned level = levels_of(mode); level >= c.leaf_level; --level) {
    std::uint64_t entry = c.entry[level] | address_of(c, level);
    if (level == c.leaf_level) entry |= key_of(mode) | (level > 1 ? pte::kPs : 0);
    // The table under test lies where its guest-physical page is.
    const bool moved = nested && c.target == level;
    const std::uint64_t at = entry_gpa(mode, level, c.gva);
    write_entry(mode, moved ? kFarFrame | (at & last_page) : at, entry);
  }
  // The next page shares all tables with this one (its leaf index is not the last), if both are
  // canonical.
  const std::uint64_t next = (c.gva | last_page) + 1, last_index = bit(index_bits(mode)) - 1;
  if (mode != Mode::kNone && c.leaf_level == 1 && ((c.gva >> 12) & last_index) != last_index) {
    write_entry(mode, entry_gpa(mode, 1, next), c.second_leaf | kSecondFrame | key_of(mode));
  }
  if (nested) now_ = initial_registers(c.machine);
  mov(Reg::kCr3, kInitialCr3);
  if (!nested) return;
  write_nested_entries(c);
  enter(c);
}

void CaseWriter::write_nested_entries(const SweepCase& c) {
  const bool ept = c.machine.nested == Nesting::kEpt;
  const unsigned levels = nested_levels(c.machine);
  const std::uint64_t usual = ept ? ept::kR | ept::kW | ept::kX : pte::kP | pte::kW | pte::kU;
  const auto upper = [&](unsigned level, std::uint64_t bits) {
    return !ept && levels == 3 && level == 3 ? bits & ~(pte::kW | pte::kU) : bits;
  };
  const auto table = [&](unsigned level) {
    return level == levels ? kNestedPool : kNestedTable[level];
  };
  const std::uint64_t far = far_page(c);
  bool shared = true;  // one entry serves both paths
  std::uint64_t far_table = kNestedPool;
  for (unsigned level = levels; level >= 1; --level) {
    shared = shared && index_at(far, level) == 0;
    const bool leaf = level == c.nested_leaf_level;
    if (!shared && level > 1)
      write_entry(Mode::k4Level, table(level), table(level - 1) | upper(level, usual));
    if (level < c.nested_leaf_level) continue;
    std::uint64_t entry = leaf ? c.nested[level] : upper(level, c.nested[level]);
    if (leaf) {
      entry |= kFarFrame & ~((std::uint64_t{1} << (12 + 9 * (level - 1))) - 1);
      if (level > 1) entry |= ept::kPs;
    } else {
      const std::uint64_t next = shared ? table(level - 1) : kFarTable[level - 1];
      entry |= next;
      write_entry(Mode::k4Level, far_table + 8 * index_at(far, level), entry);
      far_table = next;
      continue;
    }
    write_entry(Mode::k4Level, far_table + 8 * index_at(far, level), entry);
  }
  const std::uint64_t page = ept ? usual | ept::kWb : usual;
  write_entry(Mode::k4Level, table(2) + 8, kSecondNestedTable | usual);
  for (const std::uint64_t gpa :
       {kInitialCr3, kTable[1], kTable[2], kTable[3], kTable[4], kFrame[1], kSecondFrame}) {
    const std::uint64_t in = gpa < bit(21) ? table(1) : kSecondNestedTable;
    write_entry(Mode::k4Level, in + 8 * index_at(gpa, 1), gpa | page);
  }
}

// What was cached before goes: by INVEPT, or at the entry itself.
void CaseWriter::enter(const SweepCase& c) {
  const bool ept = c.machine.nested == Nesting::kEpt;
  std::uint64_t root = kNestedPool;
  if (ept) {
    root |= eptp::kWb | (nested_levels(c.machine) == 5 ? eptp::k5Level : eptp::k4Level) |
            (c.flags ? eptp::kAd : 0);
    Op& invept = add(Verb::kInvept);
    invept.type = 2;
    invept.value = root;
    invept.given = given_bit(Field::kType) | given_bit(Field::kValue);
  }
  Op& op = add(Verb::kVmEnter);
  op.value = root;
  op.pcid = 1;
  op.type = ept ? 0 : 3;
  op.given = given_bit(Field::kValue) | given_bit(Field::kType);
  in_guest_ = true;
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
