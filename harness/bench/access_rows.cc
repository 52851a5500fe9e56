// Rows about single operations: walks, warm accesses, shadow faults, table writes, root switches.

#include <vector>

#include "harness/bench/first_access.h"
#include "harness/bench/measure.h"
#include "harness/bench/plain_walker.h"
#include "harness/bench/row_set.h"
#include "harness/bench/session.h"
#include "harness/bench/workload.h"
#include "oracle/spec.h"

namespace twinwalk::bench {
namespace {

constexpr std::uint64_t kGva = 0x40'0000'0000;
constexpr unsigned kRepeats = 7;
constexpr std::uint64_t kAccessed = pte::kA | pte::kD;

Machine machine_without_prefetch() {
  Machine machine;
  machine.options = option::kNoPrefetch;
  return machine;
}

// `count` queries over `pages` pages in an order without a pattern, reads and writes mixed.
struct Mix {
  std::vector<oracle::AccessQuery> queries;
};
Mix warm_mix(unsigned pages, unsigned count) {
  Mix mix;
  std::uint64_t state = 1;
  for (unsigned i = 0; i < count; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    oracle::AccessQuery query;
    query.gva = kGva + (state >> 33) % pages * 0x1000 + (state >> 20) % 512 * 8;
    query.kind = (state >> 60) % 4 == 0 ? AccessKind::kWrite : AccessKind::kRead;
    mix.queries.push_back(query);
  }
  return mix;
}

// Zero, which the compiler does not know.
std::uint64_t none() {
  std::uint64_t zero = 0;
  asm("" : "+r"(zero));
  return zero;
}

// Lays out `pages` 4K pages in both, by the same entries.
void lay_out(const Workload& workload, PlainWalker& plain, oracle::Spec& spec) {
  for (const Step& step : workload.program().steps) {
    plain.word(step.what.gpa) = step.what.value;
    spec.write_word(step.what.gpa, step.what.value);
  }
}

constexpr unsigned kWarmPages = 64;

void walk_and_mix(RowSet& rows) {
  const Machine machine;
  Workload workload(machine);
  for (unsigned i = 0; i < kWarmPages; ++i) {
    workload.map(kGva + i * 0x1000u, kDataGpa + i * 0x1000u, kAccessed);
  }
  PlainWalker plain(machine.memory_bytes());
  oracle::Spec spec;
  spec.reset(machine, Profile::kKvm);
  lay_out(workload, plain, spec);
  Mix mix = warm_mix(kWarmPages, 4096);
  for (auto& query : mix.queries) query.registers = initial_registers(machine);

  // Each walk begins when the one before has ended, as in a processor that waits for its data: else
  // the plain walks would run beside each other, which no fault handler's can.
  const auto walk_plain = [&] {
    std::uint64_t last = 0;
    for (auto& query : mix.queries) {
      query.gva ^= last & none();
      last = plain.walk(kInitialCr3, query.gva, query.kind == AccessKind::kWrite, false, false).gpa;
    }
    keep(last);
  };
  const auto walk_spec = [&] {
    std::uint64_t last = 0;
    for (auto& query : mix.queries) {
      query.gva ^= last & none();
      last = spec.fresh(0, query).gpa[0];
    }
    keep(last);
  };
  const Pair walks = best_pair(4 * kRepeats, mix.queries.size(), walk_spec, walk_plain);
  rows.limit("plain-walk", walks.limit_ns, "ns");
  rows.ratio("spec-fresh-walk", walks.value_ns, "ns", walks.limit_ns, 1.5);

  Workload cold = workload;
  for (unsigned i = 0; i < kWarmPages; ++i) cold.access(AccessKind::kWrite, kGva + i * 0x1000u);
  Workload warm = cold;
  for (const auto& query : mix.queries) warm.access(query.kind, query.gva);
  Session session;
  const double checked = beyond_ns(
      kRepeats, mix.queries.size(), [&] { session.run_and_judge(warm.program()); },
      [&] { session.run_and_judge(cold.program()); });
  rows.at_most("checked-access", checked, "ns", walks.limit_ns, 200, 8);
  rows.agreed("checked-access", session.divergences());
}

void shadow_fault(RowSet& rows, double plain_ns) {
  const double ns = first_access_ns(machine_without_prefetch(), 2048, kRepeats);
  rows.at_most("shadow-fault", ns, "ns", plain_ns, 300);
}

// Each write meets a present shadow entry; an access in between keeps the table from counting as
// flooded.
void table_write(RowSet& rows, double plain_ns) {
  constexpr unsigned kPages = 2048;
  Workload warm(machine_without_prefetch());
  for (unsigned i = 0; i < kPages; ++i) {
    warm.map(kGva + i * 0x1000u, kDataGpa + i * 0x1000u, kAccessed);
  }
  for (unsigned i = 0; i < kPages; ++i) warm.access(AccessKind::kRead, kGva + i * 0x1000u);
  Workload without = warm, with = warm;
  for (unsigned i = 0; i < kPages; ++i) {
    // A page of the same table that is not written any more.
    const std::uint64_t neighbour = kGva + (i / 512 * 512 + (i % 512 + 511) % 512) * 0x1000u;
    const std::uint64_t leaf = with.leaf_gpa(kGva + i * 0x1000u);
    with.guest_write(leaf,
                     (kDataGpa + (i ^ 1u) * 0x1000u) | pte::kP | pte::kW | pte::kU | kAccessed);
    with.access(AccessKind::kRead, i % 512 == 0 ? kGva + (i + 511) * 0x1000u : neighbour);
    without.access(AccessKind::kRead, i % 512 == 0 ? kGva + (i + 511) * 0x1000u : neighbour);
  }
  Session session;
  rows.at_most("pt-write",
               beyond_ns(
                   kRepeats, kPages, [&] { session.run(with.program()); },
                   [&] { session.run(without.program()); }),
               "ns", plain_ns, 500);
}

// The guest edits its level-1 table through a mapping of it (an unsync table), then INVLPG.
void invlpg_resync(RowSet& rows, double plain_ns) {
  constexpr unsigned kRounds = 2048, kPages = 256;
  Workload warm(machine_without_prefetch());
  for (unsigned i = 0; i < kPages; ++i) {
    warm.map(kGva + i * 0x1000u, kDataGpa + i * 0x1000u, kAccessed);
  }
  const std::uint64_t window = kGva + 0x4000'0000;
  const std::uint64_t table = warm.leaf_gpa(kGva) & ~std::uint64_t{0xfff};
  warm.map(window, table, kAccessed);
  for (unsigned i = 0; i < kPages; ++i) warm.access(AccessKind::kRead, kGva + i * 0x1000u);
  Workload without = warm, with = warm;
  for (unsigned i = 0; i < kRounds; ++i) {
    const unsigned page = i % kPages;
    const std::uint64_t entry =
        (kDataGpa + (i ^ 1u) % kPages * 0x1000u) | pte::kP | pte::kW | pte::kU | kAccessed;
    const std::uint64_t slot = window + warm.leaf_gpa(kGva + page * 0x1000u) % 0x1000;
    with.store(slot, entry);
    with.invlpg(kGva + page * 0x1000u);
    without.store(slot, entry);
  }
  Session session;
  rows.at_most("invlpg-resync",
               beyond_ns(
                   kRepeats, kRounds, [&] { session.run(with.program()); },
                   [&] { session.run(without.program()); }),
               "ns", plain_ns, 500);
}

// Two roots by turns, both in the root cache; the access makes the core load the root.
void root_switch(RowSet& rows, double plain_ns) {
  constexpr unsigned kRounds = 2048;
  Workload warm((Machine()));
  const std::uint64_t other = warm.new_root();
  warm.map(kGva, kDataGpa, kAccessed);
  warm.map(kGva, kDataGpa, kAccessed, other);
  for (const std::uint64_t root : {other, kInitialCr3}) {
    warm.set_register(Reg::kCr3, root);
    warm.access(AccessKind::kRead, kGva);
  }
  Workload without = warm, with = warm;
  for (unsigned i = 0; i < kRounds; ++i) {
    with.set_register(Reg::kCr3, i % 2 == 0 ? other : kInitialCr3);
    with.access(AccessKind::kRead, kGva);
    without.access(AccessKind::kRead, kGva);
  }
  Session session;
  rows.at_most("cr3-switch",
               beyond_ns(
                   kRepeats, kRounds, [&] { session.run(with.program()); },
                   [&] { session.run(without.program()); }),
               "ns", plain_ns, 500);
}

}  // namespace

void access_rows(RowSet& rows) {
  walk_and_mix(rows);
  const double plain_ns = rows.value_of("plain-walk");
  shadow_fault(rows, plain_ns);
  table_write(rows, plain_ns);
  invlpg_resync(rows, plain_ns);
  root_switch(rows, plain_ns);
}

}  // namespace twinwalk::bench
