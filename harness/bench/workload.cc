#include "harness/bench/workload.h"

#include "harness/trace/content.h"
#include "harness/trace/schema.h"

namespace twinwalk::bench {
namespace {

std::uint64_t entry_gpa(std::uint64_t table, std::uint64_t gva, unsigned level) {
  return table + ((gva >> (12 + 9 * (level - 1))) & 511) * 8;
}

}  // namespace

Workload::Workload(const Machine& machine) : next_table_(kInitialCr3 + 0x1000) {
  program_.machine = machine;
}

Op& Workload::add(Verb verb) {
  Step step;
  step.op = static_cast<std::uint32_t>(program_.steps.size());
  step.what = make_op(verb);
  program_.steps.push_back(step);
  return program_.steps.back().what;
}

void Workload::host_write(std::uint64_t gpa, std::uint64_t value) {
  Op& op = add(Verb::kWrite);
  set(op, Field::kGpa, gpa);
  set(op, Field::kValue, value);
  set(op, Field::kBy, static_cast<std::uint64_t>(Writer::kHost));
}

std::uint64_t Workload::new_root() {
  const std::uint64_t root = next_table_;
  next_table_ += 0x1000;
  return root;
}

std::uint64_t Workload::table_for(std::uint64_t gva, std::uint64_t cr3, unsigned level) {
  std::uint64_t table = cr3 & pte::kAddressMask;
  for (unsigned above = 4; above > level; --above) {
    const std::uint64_t entry = entry_gpa(table, gva, above);
    std::uint64_t& next = below_[entry];
    if (next == 0) {
      next = next_table_;
      next_table_ += 0x1000;
      host_write(entry, next | pte::kP | pte::kW | pte::kU);
    }
    table = next;
  }
  return table;
}

void Workload::map(std::uint64_t gva, std::uint64_t gpa, std::uint64_t set, std::uint64_t cr3) {
  const std::uint64_t table = table_for(gva, cr3, 1);
  host_write(entry_gpa(table, gva, 1), gpa | pte::kP | pte::kW | pte::kU | set);
}

void Workload::share(std::uint64_t gva, std::uint64_t of, std::uint64_t bits, std::uint64_t cr3) {
  const std::uint64_t table = leaf_gpa(of, cr3) & ~std::uint64_t{0xfff};
  host_write(entry_gpa(table_for(gva, cr3, 2), gva, 2), table | pte::kP | bits);
}

std::uint64_t Workload::leaf_gpa(std::uint64_t gva, std::uint64_t cr3) const {
  std::uint64_t table = cr3 & pte::kAddressMask;
  for (unsigned above = 4; above > 1; --above) table = below_.at(entry_gpa(table, gva, above));
  return entry_gpa(table, gva, 1);
}

void Workload::access(AccessKind kind, std::uint64_t gva, std::uint8_t size) {
  const std::uint64_t stamp = store_stamp(static_cast<std::uint32_t>(program_.steps.size()));
  Op& op = add(Verb::kAccess);
  set(op, Field::kKind, static_cast<std::uint64_t>(kind));
  set(op, Field::kGva, gva);
  set(op, Field::kSize, size);
  if (kind == AccessKind::kWrite || kind == AccessKind::kRmw) set(op, Field::kValue, stamp);
}

void Workload::store(std::uint64_t gva, std::uint64_t value) {
  access(AccessKind::kWrite, gva);
  set(program_.steps.back().what, Field::kValue, value);
}

void Workload::guest_write(std::uint64_t gpa, std::uint64_t value) {
  Op& op = add(Verb::kWrite);
  set(op, Field::kGpa, gpa);
  set(op, Field::kValue, value);
  set(op, Field::kBy, static_cast<std::uint64_t>(Writer::kGuest));
}

void Workload::invlpg(std::uint64_t gva) { set(add(Verb::kInvlpg), Field::kGva, gva); }

void Workload::vm_enter(std::uint64_t root) { set(add(Verb::kVmEnter), Field::kValue, root); }

void Workload::quota(std::uint64_t pages) { set(add(Verb::kQuota), Field::kPages, pages); }

void Workload::set_register(Reg reg, std::uint64_t value) {
  Op& op = add(Verb::kMov);
  set(op, Field::kKind, static_cast<std::uint64_t>(reg));
  op.value = value;
}

}  // namespace twinwalk::bench
