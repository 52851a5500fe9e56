#ifndef TWINWALK_HARNESS_TRACE_PRINT_H_
#define TWINWALK_HARNESS_TRACE_PRINT_H_

// The canonical text of a trace, its operations and its bits. The grammar is in the README.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "harness/trace/op.h"
#include "harness/trace/x86.h"

namespace twinwalk {

// The whole `.walk` file. parse(print(t)) is t, and print(parse(text)) is a fixed point.
std::string print(const Trace& trace);
// One operation on one line, without indentation, newline or `at` line.
std::string print(const Op& op);
// The words of the machine line after `machine`.
std::string print(const Machine& machine);

// "wp|pg", what has no name as one hex number in front: "0x1000|p|w". 0 is "0".
std::string bits_text(std::uint64_t value, std::span<const BitName> names);
// The same for a paging-structure entry, with its protection key as pkN: "0x102000|p|w|u|pk3".
std::string entry_text(std::uint64_t value);

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_TRACE_PRINT_H_
