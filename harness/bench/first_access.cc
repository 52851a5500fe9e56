#include "harness/bench/first_access.h"

#include "harness/bench/measure.h"
#include "harness/bench/session.h"
#include "harness/bench/workload.h"
#include "harness/trace/x86.h"

namespace twinwalk::bench {

double first_access_ns(const Machine& machine, unsigned pages, unsigned repeats) {
  constexpr std::uint64_t kGva = 0x40'0000'0000;
  Workload set_up(machine);
  for (unsigned i = 0; i < pages; ++i)
    set_up.map(kGva + i * 0x1000u, kDataGpa + i * 0x1000u, pte::kA | pte::kD);
  Workload cold = set_up;
  for (unsigned i = 0; i < pages; ++i) cold.access(AccessKind::kRead, kGva + i * 0x1000u);
  Workload warm = cold;
  for (unsigned i = 0; i < pages; ++i) warm.access(AccessKind::kRead, kGva + i * 0x1000u);
  Session session;
  const double first = beyond_ns(
      repeats, pages, [&] { session.run(cold.program()); }, [&] { session.run(set_up.program()); });
  const double second = beyond_ns(
      repeats, pages, [&] { session.run(warm.program()); }, [&] { session.run(cold.program()); });
  return first - second;
}

}  // namespace twinwalk::bench
