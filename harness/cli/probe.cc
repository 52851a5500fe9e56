#include "harness/cli/probe.h"

#include <fmt/format.h>

#include <cstdio>

#include "harness/fuzzing/child.h"

namespace twinwalk::cli {
namespace {

constexpr double kSeconds = 10;
// Exit codes of a check that was survived: clear of those by which sanitizers end a process.
constexpr int kFirstCode = 64;

}  // namespace

Probe probe(Checker& checker, const Trace& trace) {
  std::fflush(nullptr);  // or the child would write it once more
  Probe out;
  fuzz::Child child;
  const bool started =
      child.call([&] { return kFirstCode + static_cast<int>(checker.check(trace).divergence); });
  if (!started) {
    out.divergence = checker.check(trace).divergence;
    return out;
  }
  const bool ended = child.wait(kSeconds);
  const int code = ended && child.exited() ? child.exit_code() - kFirstCode : -1;
  if (code >= 0 && code < static_cast<int>(DivergenceClass::kCount)) {
    out.divergence = static_cast<DivergenceClass>(code);
    return out;
  }
  out.survived = false;
  out.divergence = DivergenceClass::kTrap;
  out.end = !ended           ? "it does not come to an end"
            : child.exited() ? fmt::format("the process ended with exit code {}", child.exit_code())
                             : fmt::format("the process ended by signal {}", child.signal());
  return out;
}

}  // namespace twinwalk::cli
