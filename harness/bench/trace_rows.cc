// Rows about whole traces: throughput from bytes to verdict, audit, reset, growth, memory, scaling.

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <thread>
#include <vector>

#include "harness/bench/measure.h"
#include "harness/bench/row_set.h"
#include "harness/bench/session.h"
#include "harness/bench/typical_trace.h"
#include "harness/bench/workload.h"
#include "harness/checker.h"
#include "harness/trace/binary.h"

namespace twinwalk::bench {
namespace {

constexpr unsigned kRepeats = 5;
constexpr std::uint64_t kGva = 0x40'0000'0000;
constexpr std::uint64_t kAccessed = pte::kA | pte::kD;
constexpr unsigned kManyShadowPages = 100'000;
// Data of a 1 GiB guest, above its tables.
constexpr std::uint64_t kLargeGuestData = 0x2000'0000, kOthersData = 0x3000'0000;

CoreSubjectOptions options_with(bool audit) {
  CoreSubjectOptions options;
  options.audit = audit;
  return options;
}

// The loop of a fuzz worker over a few traces: bytes in, verdicts out.
class TraceLoop {
 public:
  explicit TraceLoop(bool audit) : core_(make_core_subject(options_with(audit))), checker_(*core_) {
    for (unsigned seed = 0; seed < kTypicalTraces; ++seed) {
      encode_raw(typical_trace(seed), bytes_.emplace_back());
    }
  }
  void run(std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) {
      decode(bytes_[i % kTypicalTraces], trace_);
      divergences_ += checker_.check(trace_).diverge;
    }
  }
  std::uint64_t divergences() const { return divergences_; }

 private:
  std::unique_ptr<Subject> core_;
  Checker checker_;
  std::vector<std::vector<std::uint8_t>> bytes_;
  Trace trace_;
  std::uint64_t divergences_ = 0;
};

double mebibytes() { return static_cast<double>(resident_kib()) / 1024; }

// First of all rows: what others leave resident would count.
void memory(RowSet& rows, TraceLoop& loop) {
  mebibytes();  // the first reading makes its own code resident
  loop.run(100'000);
  const double early = mebibytes();
  loop.run(900'000);
  const double late = mebibytes();
  rows.at_most("resident-after-1e6-traces", late, "MiB", early, 64, 1.02);
}

void throughput(RowSet& rows, TraceLoop& loop) {
  constexpr std::uint64_t kCount = 20'000;
  const double ns = best_ns(kRepeats, kCount, [&] { loop.run(kCount); });
  rows.at_least("trace-64", 1e9 / ns, "traces/s", 100'000);
  rows.agreed("trace-64", loop.divergences());
}

void audit(RowSet& rows) {
  Lowering lowering;
  std::vector<Program> programs(16);
  for (unsigned i = 0; i < programs.size(); ++i) lowering.lower(typical_trace(i), programs[i]);
  Session with(true), without(false);
  constexpr unsigned kRounds = 200;
  const auto rounds = [&](Session& session) {
    for (unsigned i = 0; i < kRounds; ++i) {
      for (const Program& program : programs) session.run_and_judge(program);
    }
  };
  const Pair pair = best_pair(
      kRepeats, kRounds * programs.size(), [&] { rounds(with); }, [&] { rounds(without); });
  rows.ratio("audit", pair.value_ns, "ns/trace", pair.limit_ns, 2);
}

// The same small trace on a large guest and on a small one.
void reset(RowSet& rows) {
  const auto program_on = [](std::uint32_t mebibytes_of_guest) {
    Trace trace = typical_trace(0);
    trace.machine.memory_mib = mebibytes_of_guest;
    Program program;
    Lowering().lower(trace, program);
    return program;
  };
  const Program large = program_on(1024), small = program_on(48);
  Session session;
  constexpr unsigned kRounds = 2000;
  const auto rounds = [&](const Program& program) {
    for (unsigned i = 0; i < kRounds; ++i) session.run_and_judge(program);
  };
  const Pair pair = best_pair(
      kRepeats, kRounds, [&] { rounds(large); }, [&] { rounds(small); });
  rows.ratio("reset-1G-guest", pair.value_ns, "ns/trace", pair.limit_ns, 1.1);
}

// Cost of one warm access in a long trace against a short one.
void growth_by_operations(RowSet& rows) {
  Workload set_up((Machine()));
  for (unsigned i = 0; i < 16; ++i) {
    set_up.map(kGva + i * 0x1000u, kDataGpa + i * 0x1000u, kAccessed);
  }
  for (unsigned i = 0; i < 16; ++i) set_up.access(AccessKind::kRead, kGva + i * 0x1000u);
  const auto with_accesses = [&](unsigned count) {
    Workload workload = set_up;
    for (unsigned i = 0; i < count; ++i) {
      workload.access(i % 4 == 0 ? AccessKind::kWrite : AccessKind::kRead,
                      kGva + i % 16 * 0x1000u + i % 512 * 8);
    }
    return workload;
  };
  constexpr unsigned kFew = 100, kMany = 1'000'000, kRounds = 200;
  const Workload few = with_accesses(kFew), many = with_accesses(kMany);
  Session session;
  const double in_short = beyond_ns(
      kRepeats, std::uint64_t{kFew} * kRounds,
      [&] {
        for (unsigned i = 0; i < kRounds; ++i) session.run_and_judge(few.program());
      },
      [&] {
        for (unsigned i = 0; i < kRounds; ++i) session.run_and_judge(set_up.program());
      });
  const double in_long = beyond_ns(
      2, kMany, [&] { session.run_and_judge(many.program()); },
      [&] { session.run_and_judge(set_up.program()); });
  rows.ratio("growth-1e6-operations", in_long, "ns/op", in_short, 1.25);
}

// Makes `count` shadow pages of level 1, eight over each guest table: one for each set of rights
// that the entry above may give.
void add_shadow_pages(Workload& workload, unsigned count) {
  constexpr unsigned kRights = 8;
  std::uint64_t table = 0;
  for (unsigned i = 0; i < count; ++i) {
    const std::uint64_t gva = kGva + (i + 1) * 0x20'0000ull;
    if (i % kRights == 0) {
      table = gva;
      workload.map(gva, kOthersData + i / kRights * 0x1000u, kAccessed);
    } else {
      workload.share(gva, table,
                     (i & 1 ? 0 : pte::kW) | (i & 2 ? 0 : pte::kU) | (i & 4 ? pte::kXd : 0));
    }
    workload.access(AccessKind::kRead, gva);
  }
}

// Cost of table writes, flushes and accesses on one table, beside `others` shadow pages that are
// not touched.
double cost_beside(unsigned others, Session& session) {
  Machine machine;
  machine.memory_mib = 1024;
  Workload set_up(machine);
  set_up.quota(2 * kManyShadowPages);
  for (unsigned i = 0; i < 64; ++i) {
    set_up.map(kGva + i * 0x1000u, kLargeGuestData + kDataGpa + i * 0x1000u, kAccessed);
  }
  add_shadow_pages(set_up, others);
  for (unsigned i = 0; i < 64; ++i) set_up.access(AccessKind::kRead, kGva + i * 0x1000u);
  Workload busy = set_up;
  constexpr unsigned kRounds = 1 << 14;
  for (unsigned i = 0; i < kRounds; ++i) {
    const std::uint64_t gva = kGva + i % 64 * 0x1000u;
    busy.guest_write(busy.leaf_gpa(gva), (kLargeGuestData + kDataGpa + (i * 3) % 64 * 0x1000u) |
                                             pte::kP | pte::kW | pte::kU | kAccessed);
    busy.invlpg(gva);
    busy.access(AccessKind::kRead, gva);
  }
  double best = std::numeric_limits<double>::infinity();
  for (unsigned i = 0; i < kRepeats; ++i) {
    best = std::min(best, session.time_from(set_up.steps(), busy.program()) / (3 * kRounds));
  }
  return best;
}

void growth_by_shadow_pages(RowSet& rows) {
  Session session;
  const double beside_one = cost_beside(1, session);
  const double beside_many = cost_beside(kManyShadowPages, session);
  rows.ratio("growth-1e5-shadow-pages", beside_many, "ns/op", beside_one, 1.5);
  rows.agreed("growth-1e5-shadow-pages", session.divergences());
}

// CPU time of one trace in each of `workers` processes at once, by their mean.
double ns_per_trace_in(unsigned workers) {
  constexpr std::uint64_t kCount = 30'000;
  int ends[2];
  if (pipe(ends) != 0) return 0;
  for (unsigned i = 0; i < workers; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      TraceLoop loop(true);
      loop.run(kCount / 10);
      const double ns = best_ns(3, kCount, [&] { loop.run(kCount); });
      _exit(write(ends[1], &ns, sizeof ns) == sizeof ns ? 0 : 1);
    }
  }
  close(ends[1]);
  double sum = 0, ns = 0;
  while (read(ends[0], &ns, sizeof ns) == sizeof ns) sum += ns;
  close(ends[0]);
  while (wait(nullptr) > 0) {
  }
  return sum / workers;
}

// What workers take from each other (caches, memory): CPU time, so that other load on the machine
// does not count.
void scaling(RowSet& rows) {
  const unsigned cores = std::max(2u, std::thread::hardware_concurrency());
  const double alone = ns_per_trace_in(1), together = ns_per_trace_in(cores);
  rows.at_least("scaling-efficiency", together > 0 ? alone / together : 0, "of 1", 1, 0.9);
}

}  // namespace

void memory_rows(RowSet& rows) {
  TraceLoop loop(true);
  memory(rows, loop);
}

void trace_rows(RowSet& rows) {
  TraceLoop loop(false);  // what the audit adds has a row of its own
  throughput(rows, loop);
  audit(rows);
  reset(rows);
  growth_by_operations(rows);
  growth_by_shadow_pages(rows);
  scaling(rows);
}

}  // namespace twinwalk::bench
