#include "harness/cli/probe.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <cstdio>

#include "harness/fuzzing/child.h"

namespace twinwalk::cli {
namespace {

constexpr double kSeconds = 10;
constexpr int kMillisecondsOfText = 60'000;
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

std::optional<std::string> text_of_child(const std::function<std::string()>& say) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return std::nullopt;
  fuzz::Child child;
  const bool started = child.call([&] {
    const std::string text = say();
    for (std::size_t done = 0; done < text.size();) {
      const ssize_t n = ::write(ends[1], text.data() + done, text.size() - done);
      if (n <= 0) return 1;
      done += static_cast<std::size_t>(n);
    }
    return 0;
  });
  ::close(ends[1]);
  std::string text;
  for (;;) {
    pollfd ready{ends[0], POLLIN, 0};
    if (!started || ::poll(&ready, 1, kMillisecondsOfText) <= 0) break;
    char some[4096];
    const ssize_t n = ::read(ends[0], some, sizeof some);
    if (n <= 0) break;
    text.append(some, static_cast<std::size_t>(n));
  }
  ::close(ends[0]);
  if (!started || !child.wait(1) || child.exit_code() != 0) return std::nullopt;
  return text;
}

}  // namespace twinwalk::cli
