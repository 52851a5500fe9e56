#ifndef TWINWALK_HARNESS_TRACE_VALUE_TEXT_H_
#define TWINWALK_HARNESS_TRACE_VALUE_TEXT_H_

// Reads the value after the `=` of a field; the parser's, not public.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "harness/trace/schema.h"

namespace twinwalk::text {

struct Value {
  std::uint64_t number = 0;
  std::string error;       // empty: `number` is the value, and legal
  std::size_t offset = 0;  // of what is wrong, within the text
};

// Precondition: `field` is resolved.
Value read_value(const FieldInfo& field, std::string_view text);
Value read_value(const MachineField& field, std::string_view text);

// 0x... or decimal digits, at most 64 bits.
std::optional<std::uint64_t> read_number(std::string_view text);

// `text` in backquotes, cut to a readable length, with nothing unprintable in it.
std::string quoted(std::string_view text);
// "a, b or c"
std::string alternatives(std::span<const BitName> names);

}  // namespace twinwalk::text

#endif  // TWINWALK_HARNESS_TRACE_VALUE_TEXT_H_
