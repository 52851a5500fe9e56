#ifndef TWINWALK_HARNESS_TRACE_PARSE_LINE_H_
#define TWINWALK_HARNESS_TRACE_PARSE_LINE_H_

// One line of a `.walk` file; the parser's, not public. parse.cc knows how lines
// follow each other, these functions what stands on them.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "harness/trace/op.h"

namespace twinwalk::text {

struct Word {
  std::string_view text;
  std::size_t column;  // from 1
};

// What is wrong, and where on its line (from 1; 0: the file as a whole).
struct Wrong {
  std::size_t column;
  std::string message;
};
using MaybeWrong = std::optional<Wrong>;  // empty: nothing is wrong
MaybeWrong wrong(const Word& word, std::string message);

std::string_view trimmed(std::string_view line);
// Bytes of the UTF-8 character at the start of `s`; 0 if there is none.
std::size_t utf8_length(std::string_view s);
// The words of a line up to its comment, which is returned (with its `#`; empty if there is none).
std::string_view split(std::string_view line, std::vector<Word>& words);

// The words of a line of which the first is `requires`, `known`, `machine`.
MaybeWrong read_requires(const std::vector<Word>& words, std::string& out);
MaybeWrong read_known(const std::vector<Word>& words, std::vector<std::string>& out);
MaybeWrong read_machine(const std::vector<Word>& words, Machine& out);

// What follows a `=`, in canonical spacing.
MaybeWrong read_expectation(const Word& rest, std::string& out);

// `at POINT vcpu=N`. `end` is the column behind the line.
MaybeWrong read_at(const std::vector<Word>& words, std::size_t end, unsigned vcpus, Point& point,
                   std::uint8_t& vcpu);

// An operation outside of a block; inside of one (op.point is set) `vcpu=` is refused. Replaces all
// but point, vcpu, line.
MaybeWrong read_op(const std::vector<Word>& words, std::size_t end, unsigned vcpus, Op& op);

}  // namespace twinwalk::text

#endif  // TWINWALK_HARNESS_TRACE_PARSE_LINE_H_
