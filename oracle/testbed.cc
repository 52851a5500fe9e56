#include "oracle/testbed.h"

#include "oracle/paging.h"

namespace twinwalk::oracle {

Testbed::Testbed(Profile profile, const Machine& machine) { spec.reset(machine, profile); }

std::uint64_t Testbed::entry_gpa(std::uint64_t gva, unsigned level) {
  constexpr std::uint64_t kTables[] = {0, kPt, kPd, kPdpt, kRoot};
  return kTables[level] + ((gva >> (12 + 9 * (level - 1))) & 511) * 8;
}

void Testbed::map(std::uint64_t gva, std::uint64_t leaf, std::uint64_t upper) {
  spec.write_word(entry_gpa(gva, 4), kPdpt | upper);
  spec.write_word(entry_gpa(gva, 3), kPd | upper);
  spec.write_word(entry_gpa(gva, 2), kPt | upper);
  spec.write_word(entry_gpa(gva, 1), leaf);
}

Verdict Testbed::step(const Op& op, const Outcome& got) {
  Verdict v;
  spec.judge(index_, {index_, op}, got, extra.data(), v);
  ++index_;
  return v;
}

Verdict Testbed::access(AccessKind kind, std::uint64_t gva, const Outcome& got, unsigned vcpu) {
  Op op;
  op.verb = Verb::kAccess;
  op.vcpu = static_cast<std::uint8_t>(vcpu);
  op.kind = static_cast<std::uint64_t>(kind);
  op.gva = gva;
  op.size = size;
  op.implicit = implicit;
  op.value = store_stamp(index_);
  return step(op, got);
}

Verdict Testbed::write(std::uint64_t gpa, std::uint64_t value, Writer by, unsigned bytes) {
  Op op;
  op.verb = Verb::kWrite;
  op.gpa = gpa;
  op.value = value;
  op.size = bytes;
  op.by = static_cast<std::uint64_t>(by);
  return step(op, Outcome{});
}

Verdict Testbed::mov(Reg reg, std::uint64_t value, OutcomeKind got) {
  Op op;
  op.verb = Verb::kMov;
  op.kind = static_cast<std::uint64_t>(reg);
  op.value = value;
  Outcome o;
  o.kind = got;
  return step(op, o);
}

Verdict Testbed::invlpg(std::uint64_t gva) {
  Op op;
  op.verb = Verb::kInvlpg;
  op.gva = gva;
  return step(op, Outcome{});
}

Verdict Testbed::invpcid(std::uint64_t type, std::uint64_t pcid, std::uint64_t gva,
                         OutcomeKind got) {
  Op op;
  op.verb = Verb::kInvpcid;
  op.type = type;
  op.pcid = pcid;
  op.gva = gva;
  Outcome o;
  o.kind = got;
  return step(op, o);
}

AccessQuery Testbed::query(AccessKind kind, std::uint64_t gva) const {
  AccessQuery q;
  q.gva = gva;
  q.kind = kind;
  q.size = static_cast<std::uint8_t>(size);
  q.implicit = implicit;
  q.registers = spec.registers(0);
  return q;
}

Outcome Testbed::fresh(AccessKind kind, std::uint64_t gva, unsigned bytes) const {
  AccessQuery q = query(kind, gva);
  q.size = static_cast<std::uint8_t>(bytes);
  const FreshOutcome f = spec.fresh(0, q);
  Outcome o;
  o.kind = f.kind;
  o.error_code = f.error_code;
  o.cr2 = f.cr2;
  o.qualification = f.qualification;
  o.gpa[0] = f.gpa[0];
  o.gpa[1] = f.gpa[1];
  o.value = f.value;
  o.path[0] = f.path[0];
  o.path[1] = f.path[1];
  if (spec.in_guest(0)) {
    o.write =
        f.kind == OutcomeKind::kMmio && (kind == AccessKind::kWrite || kind == AccessKind::kRmw);
    return o;
  }
  // A subject shows a walk of memory, whatever PDPTE registers hold.
  const WalkView view = spec.view(0, q);
  for (unsigned i = 0; i < view.parts.size(); ++i) {
    const auto& steps = view.parts[i].steps;
    if (!steps.empty() && steps[0].memory_differs) fill_path(view.parts[i].gva, o.path[i]);
  }
  o.write =
      f.kind == OutcomeKind::kMmio && (kind == AccessKind::kWrite || kind == AccessKind::kRmw);
  return o;
}

Verdict Testbed::access_fresh(AccessKind kind, std::uint64_t gva) {
  return access(kind, gva, fresh(kind, gva, size));
}

void Testbed::fill_path(std::uint64_t gva, Path& path) const {
  const Registers& r = spec.registers(0);
  const PagingMode& mode = kModes[row_of(r)];
  std::uint64_t table = r.cr3 & mode.root_mask;
  path.count = 0;
  for (unsigned level = mode.levels; level >= 1; --level) {
    const std::uint64_t at = mode.entry_gpa(table, mode.linear(gva), level);
    const std::uint64_t entry =
        spec.read_word(at & ~std::uint64_t{7}) >> 8 * (at & 7) & mode.entry_mask();
    path.entry[path.count++] = entry;
    if (!(entry & pte::kP) || mode.is_leaf(entry, level)) break;
    table = mode.frame(entry, level, false);
  }
}

Outcome Testbed::through(AccessKind kind, std::uint64_t gva, std::uint64_t gpa) const {
  Outcome o;
  o.kind = OutcomeKind::kOk;
  o.gpa[0] = gpa;
  if (kind != AccessKind::kWrite) o.value = spec.read_word(gpa & ~std::uint64_t{7});
  fill_path(gva, o.path[0]);
  return o;
}

Outcome Testbed::fault(std::uint64_t gva, std::uint32_t error_code) const {
  Outcome o;
  o.kind = OutcomeKind::kPageFault;
  o.error_code = error_code;
  o.cr2 = gva;
  fill_path(gva, o.path[0]);
  return o;
}

}  // namespace twinwalk::oracle
