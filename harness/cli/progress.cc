#include "harness/cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <utility>

namespace twinwalk::cli {
namespace {

constexpr auto kOnTerminal = std::chrono::milliseconds(200);
constexpr auto kElsewhere = std::chrono::seconds(10);

}  // namespace

Progress::Progress(std::string what, std::size_t of)
    : what_(std::move(what)),
      of_(of),
      terminal_(isatty(STDERR_FILENO) != 0),
      last_(std::chrono::steady_clock::now()) {}

Progress::~Progress() {
  if (terminal_ && shown_) fmt::print(stderr, "\r\x1b[K");
}

void Progress::reached(std::size_t done) {
  const auto now = std::chrono::steady_clock::now();
  if (now - last_ < (terminal_ ? kOnTerminal : std::chrono::milliseconds(kElsewhere))) return;
  last_ = now;
  shown_ = true;
  fmt::print(stderr, "{}twinwalk: {}: {} of {} traces{}", terminal_ ? "\r\x1b[K" : "", what_, done,
             of_, terminal_ ? "" : "\n");
}

}  // namespace twinwalk::cli
