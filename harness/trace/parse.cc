#include "harness/trace/parse.h"

#include <fmt/format.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "harness/trace/parse_line.h"
#include "harness/trace/value_text.h"

namespace twinwalk {
namespace {

using text::MaybeWrong;
using text::quoted;
using text::trimmed;
using text::Word;
using text::Wrong;
using text::wrong;

// The lines of a file, one after the other, and what has been seen so far.
class Parser {
 public:
  Parser(std::string_view text, std::string_view file) : text_(text), file_(file) {}

  ParseResult run() {
    MaybeWrong bad = check_bytes();
    while (!bad && next_line()) bad = one_line();
    if (!bad) bad = check_end();
    if (bad)
      result_.error =
          ParseError{file_, bad->column ? line_ : 0, bad->column, std::move(bad->message)};
    drop_trailing_blanks();
    return std::move(result_);
  }

 private:
  std::vector<Op>& ops() { return result_.trace.ops; }
  bool in_block() const { return block_ != Point::kNone; }
  bool block_is_empty() const { return in_block() && result_.trace.ops.size() == block_begin_; }
  std::size_t indent() const { return words_[0].column; }
  std::size_t line_end() const { return line_text_.size() + 1; }

  // Everything that is not text is refused here, so that no message repeats it.
  MaybeWrong check_bytes() {
    if (text_.size() > kMaxTextBytes) {
      return Wrong{
          0, fmt::format("found {} bytes; a trace has at most {}", text_.size(), kMaxTextBytes)};
    }
    std::size_t line = 1, start = 0;
    for (std::size_t i = 0; i < text_.size();) {
      const auto byte = static_cast<unsigned char>(text_[i]);
      const std::size_t length = text::utf8_length(text_.substr(i, 4));
      const bool control = byte < 0x20 && byte != '\n' && byte != '\t' && byte != '\r';
      if (length == 0 || control || byte == 0x7f) {
        line_ = line;
        return Wrong{i - start + 1, fmt::format("found byte {:#04x}; a trace is UTF-8 text", byte)};
      }
      if (byte == '\n') ++line, start = i + 1;
      i += length;
    }
    return {};
  }

  bool next_line() {
    if (position_ >= text_.size()) return false;
    const std::size_t end = text_.find('\n', position_);
    line_text_ = text_.substr(position_, end - position_);
    position_ = end == text_.npos ? text_.size() : end + 1;
    ++line_;
    if (!line_text_.empty() && line_text_.back() == '\r') line_text_.remove_suffix(1);
    return true;
  }

  MaybeWrong check_end() {
    if (!seen_walk_) return Wrong{0, "found no `walk 1`; a trace begins with that line"};
    if (block_is_empty()) {
      return Wrong{line_end(), "found the end after `at`; allowed: an indented operation"};
    }
    return {};
  }

  void add_comment(std::string_view words) {
    auto& comments = result_.trace.comments;
    const std::uint32_t op =
        seen_machine_ || !ops().empty() ? static_cast<std::uint32_t>(ops().size()) : Trace::kHeader;
    const bool after_blank =
        !comments.empty() && comments.back().op == op && comments.back().text.empty();
    if (words.empty() && (!seen_walk_ || after_blank)) return;  // empty lines come one at a time
    comments.push_back({op, std::string(words)});
  }

  void drop_trailing_blanks() {
    auto& comments = result_.trace.comments;
    while (!comments.empty() && comments.back().text.empty() &&
           comments.back().op == ops().size()) {
      comments.pop_back();
    }
  }

  MaybeWrong one_line() {
    const std::string_view line = trimmed(line_text_);
    if (line.empty() || line.front() == '#') {
      add_comment(line);
      return {};
    }
    if (line.front() == '=') return expectation_line(line);
    const std::string_view comment = text::split(line_text_, words_);
    if (!comment.empty()) add_comment(comment);
    const Word first = words_.front();
    if (!seen_walk_) return walk_line();
    if (first.text == "walk")
      return wrong(first, "found a second `walk`; allowed: one, as the first line");
    if (first.text == "requires" || first.text == "known" || first.text == "machine")
      return header_line(first);
    return first.text == "at" ? at_line() : op_line();
  }

  MaybeWrong walk_line() {
    if (words_.size() != 2 || words_[0].text != "walk") {
      return wrong(words_[0],
                   fmt::format("found {}; a trace begins with `walk 1`", quoted(words_[0].text)));
    }
    if (words_[1].text != "1") {
      return wrong(words_[1], fmt::format("found version {}; allowed: 1", quoted(words_[1].text)));
    }
    seen_walk_ = true;
    return {};
  }

  MaybeWrong header_line(const Word& first) {
    Trace& trace = result_.trace;
    if (!ops().empty()) {
      return wrong(first, fmt::format("found {} after an operation; allowed: before the first one",
                                      quoted(first.text)));
    }
    if (first.text == "known") return text::read_known(words_, trace.known);
    const bool machine = first.text == "machine";
    if (machine ? seen_machine_ : !trace.requires_line.empty()) {
      return wrong(first, fmt::format("found a second {}; allowed: one", quoted(first.text)));
    }
    if (!machine) return text::read_requires(words_, trace.requires_line);
    seen_machine_ = true;
    return text::read_machine(words_, trace.machine);
  }

  MaybeWrong expectation_line(std::string_view line) {
    const Word rest{line.substr(1), static_cast<std::size_t>(line.data() - line_text_.data()) + 1};
    if (ops().empty()) {
      return wrong(rest, "found `=` before any operation; it follows the operation it is about");
    }
    Expectation e{static_cast<std::uint32_t>(ops().size() - 1), ""};
    if (MaybeWrong bad = text::read_expectation(rest, e.text)) return bad;
    result_.trace.expectations.push_back(std::move(e));
    return {};
  }

  MaybeWrong at_line() {
    const Word& first = words_[0];
    if (ops().empty()) {
      return wrong(first,
                   "found `at` before any operation; it belongs under the operation it interrupts");
    }
    if (block_is_empty())
      return wrong(first, "found `at` right after `at`; allowed: an indented operation");
    if (in_block() && indent() > block_indent_) {
      return wrong(first, "found `at` inside an `at` block; blocks do not nest");
    }
    block_indent_ = indent();
    block_begin_ = ops().size();
    return text::read_at(words_, line_end(), result_.trace.machine.vcpus, block_, block_vcpu_);
  }

  MaybeWrong op_line() {
    if (ops().size() >= kMaxOps) {
      return wrong(words_[0],
                   fmt::format("found more than {} operations; allowed: that many", kMaxOps));
    }
    if (in_block() && indent() <= block_indent_) {
      if (block_is_empty()) {
        return wrong(
            words_[0],
            fmt::format("found {}; allowed after `at`: an operation that is indented further",
                        quoted(words_[0].text)));
      }
      block_ = Point::kNone;
    }
    Op op;
    op.line = static_cast<std::uint32_t>(line_);
    op.point = block_;
    if (in_block()) op.vcpu = block_vcpu_;
    MaybeWrong bad = text::read_op(words_, line_end(), result_.trace.machine.vcpus, op);
    if (!bad) ops().push_back(op);
    return bad;
  }

  std::string_view text_, line_text_;
  std::string file_;
  std::size_t position_ = 0, line_ = 0;
  std::vector<Word> words_;  // of the line
  bool seen_walk_ = false, seen_machine_ = false;
  Point block_ = Point::kNone;  // of the `at` block that is open
  std::uint8_t block_vcpu_ = 0;
  std::size_t block_indent_ = 0, block_begin_ = 0;
  ParseResult result_;
};

}  // namespace

std::string to_text(const ParseError& e) {
  if (!e.line) return e.file.empty() ? e.message : fmt::format("{}: {}", e.file, e.message);
  return fmt::format("{}:{}:{}: {}", e.file.empty() ? "trace" : e.file, e.line, e.column,
                     e.message);
}

ParseResult parse(std::string_view text, std::string_view file) { return Parser(text, file).run(); }

}  // namespace twinwalk
