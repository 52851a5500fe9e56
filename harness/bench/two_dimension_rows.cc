// Rows of two-dimensional paging: faults of the core's EPT, walks through both dimensions.

#include <vector>

#include "harness/bare_subject.h"
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

// The first access to each page meets an EPT violation, the second none.
void ept_fault(RowSet& rows, double plain_ns) {
  Machine machine;
  machine.core = Dimension::kEpt;
  rows.at_most("ept-fault", first_access_ns(machine, 256, 4 * kRepeats), "ns", plain_ns, 300);
}

// A guest on EPT that the workload itself writes: each page that it uses mapped to itself, by an
// entry of 4K, so that a walk reads 24 entries.
class NestedWorkload {
 public:
  static constexpr std::uint64_t kRoot = 0x300'0000;

  explicit NestedWorkload(TlbPolicy tlb) : workload_(machine_with(tlb)) {
    constexpr unsigned kPages = 64;
    for (unsigned i = 0; i < kPages; ++i) {
      const std::uint64_t gpa = kDataGpa + i * 0x1000u;
      pages_.push_back(kGva + i * 0x1000u);
      workload_.map(pages_.back(), gpa, kAccessed);
      nest(gpa);
    }
    // The guest's tables: a few pages from the root on.
    for (std::uint64_t gpa = kInitialCr3; gpa < kInitialCr3 + 0x8000; gpa += 0x1000) nest(gpa);
    workload_.vm_enter(kRoot | eptp::kWb | eptp::k4Level | eptp::kAd);
  }

  const std::vector<std::uint64_t>& pages() const { return pages_; }
  const Machine& machine() const { return workload_.program().machine; }
  Workload& workload() { return workload_; }

 private:
  static Machine machine_with(TlbPolicy tlb) {
    Machine machine;
    machine.core = Dimension::kBare;
    machine.nested = Nesting::kEpt;
    machine.host_levels = 4;
    machine.tlb = tlb;
    machine.tdp &= ~tdp::kPml;
    return machine;
  }
  // Everything lies in one PML4E's and one PDPTE's reach.
  void nest(std::uint64_t gpa) {
    constexpr std::uint64_t kRwx = ept::kR | ept::kW | ept::kX | ept::kA | ept::kD;
    const std::uint64_t pdpt = kRoot + 0x1000, pd = kRoot + 0x2000;
    const std::uint64_t pt = kRoot + 0x3000 + (gpa >> 21) * 0x1000;
    workload_.guest_write(kRoot, pdpt | kRwx);
    workload_.guest_write(pdpt, pd | kRwx);
    workload_.guest_write(pd + (gpa >> 21) * 8, pt | kRwx);
    workload_.guest_write(pt + (gpa >> 12 & 511) * 8, gpa | kRwx | ept::kWb);
  }

  Workload workload_;
  std::vector<std::uint64_t> pages_;
};

// By turns the spec's fresh walk and the least that such a walk can do.
void spec_walk(RowSet& rows) {
  constexpr unsigned kWalks = 4096;
  NestedWorkload guest(TlbPolicy::kStale);
  PlainWalker plain(guest.machine().memory_bytes());
  oracle::Spec spec;
  spec.reset(guest.machine(), Profile::kArchitecture);
  const Program& program = guest.workload().program();
  Verdict verdict;
  for (std::uint32_t i = 0; i < program.steps.size(); ++i) {
    const Step& step = program.steps[i];
    if (step.what.verb == Verb::kWrite) plain.word(step.what.gpa) = step.what.value;
    spec.judge(i, step, Outcome{}, nullptr, verdict);
  }
  std::vector<oracle::AccessQuery> queries(kWalks);
  std::uint64_t state = 1;
  for (oracle::AccessQuery& query : queries) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    query.gva = guest.pages()[(state >> 33) % guest.pages().size()] + (state >> 20) % 512 * 8;
    query.registers = spec.registers(0);
  }
  const Pair walks = best_pair(
      kRepeats, kWalks,
      [&] {
        for (const oracle::AccessQuery& query : queries) keep(spec.fresh(0, query).gpa[0]);
      },
      [&] {
        for (const oracle::AccessQuery& query : queries)
          keep(plain.walk_nested(NestedWorkload::kRoot, kInitialCr3, query.gva));
      });
  rows.limit("plain-nested-walk", walks.limit_ns, "ns");
  rows.ratio("spec-nested-walk", walks.value_ns, "ns", walks.limit_ns, 20);
}

// With a TLB that keeps nothing every access walks.
void processor_walk(RowSet& rows) {
  constexpr unsigned kRounds = 32;
  NestedWorkload guest(TlbPolicy::kFresh);
  const Workload without = guest.workload();
  Workload& with = guest.workload();
  for (unsigned round = 0; round < kRounds; ++round)
    for (const std::uint64_t page : guest.pages()) with.access(AccessKind::kRead, page);
  const auto subject = make_bare_subject();
  OutcomeStream out;
  const double walk = beyond_ns(
      kRepeats, kRounds * guest.pages().size(), [&] { subject->run(with.program(), out); },
      [&] { subject->run(without.program(), out); });
  rows.ratio("processor-nested-walk", walk, "ns", rows.value_of("plain-nested-walk"), 40);
}

}  // namespace

void two_dimension_rows(RowSet& rows) {
  ept_fault(rows, rows.value_of("plain-walk"));
  spec_walk(rows);
  processor_walk(rows);
}

}  // namespace twinwalk::bench
