#ifndef TWINWALK_HARNESS_TRACE_LOAD_H_
#define TWINWALK_HARNESS_TRACE_LOAD_H_

// Traces from files, in whichever form they are.

#include <cstdint>
#include <span>
#include <string>

#include "harness/trace/parse.h"

namespace twinwalk {

enum class Form : std::uint8_t {
  kAuto,  // binary if it begins with the magic, text otherwise
  kRaw,   // any bytes, as the total decoder reads them
};

// Reads at most kMaxTextBytes. Missing, unreadable, too large, truncated, of another version, or
// not a trace: an error of one line that names the file.
ParseResult load_trace(const std::string& path, Form form = Form::kAuto);

// The same from memory; `name` is what errors call it.
ParseResult read_trace(std::span<const std::uint8_t> bytes, const std::string& name,
                       Form form = Form::kAuto);

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_TRACE_LOAD_H_
