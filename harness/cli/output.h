#ifndef TWINWALK_HARNESS_CLI_OUTPUT_H_
#define TWINWALK_HARNESS_CLI_OUTPUT_H_

// Standard output whose errors are noticed, and the one error that a verb ends with.

#include <fmt/core.h>

#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>

namespace twinwalk::cli {

// Exit codes of the command line (a contract: CI relies on them).
inline constexpr int kExitGood = 0, kExitFound = 1, kExitBad = 2;

// Bad usage, bad input, or a place that cannot be written: one line on standard error, exit 2.
class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Writes to standard output. Throws Failure if it cannot be written (a full disk).
void write_out(std::string_view text);

template <class... Args>
void print(fmt::format_string<Args...> format, Args&&... args) {
  write_out(fmt::format(format, std::forward<Args>(args)...));
}

// Call last: what is still buffered is written. Throws Failure if it cannot be.
void flush_out();

// Text in a colour where standard output is a terminal that wants it (NO_COLOR is not set), else as
// it is.
enum class Tone { kPlain, kBold, kDim, kGood, kBad, kNote };
std::string paint(Tone tone, std::string_view text);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_OUTPUT_H_
