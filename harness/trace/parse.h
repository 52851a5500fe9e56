#ifndef TWINWALK_HARNESS_TRACE_PARSE_H_
#define TWINWALK_HARNESS_TRACE_PARSE_H_

// Reads `.walk` text. The grammar is in the README.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "harness/trace/op.h"

namespace twinwalk {

struct ParseError {
  std::string file;
  std::size_t line = 0;    // from 1; 0: the file as a whole
  std::size_t column = 0;  // from 1, in bytes
  std::string message;     // what was found and what is allowed; one line of printable text
};
// "file:line:column: message"
std::string to_text(const ParseError& error);

struct ParseResult {
  Trace trace;  // meaningful only without an error
  std::optional<ParseError> error;
  explicit operator bool() const { return !error; }
};

inline constexpr std::size_t kMaxTextBytes = std::size_t{64} << 20;

// `file` is only named in errors. Every trace that comes back is legal: each value within its
// schema's range, vcpu < machine.vcpus, at most kMaxOps operations, the first of them outside an
// `at` block.
ParseResult parse(std::string_view text, std::string_view file = "");

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_TRACE_PARSE_H_
