#include "harness/mutation/tokens.h"

#include <algorithm>
#include <cctype>
#include <string>
#include <utility>

namespace twinwalk::mutation {
namespace {

// Longest first: the first that fits is the token.
constexpr std::string_view kMarks[] = {"<<=", ">>=", "<=>", "->*", "...", "::", "->", "++", "--",
                                       "<<",  ">>",  "<=",  ">=",  "==",  "!=", "&&", "||", "+=",
                                       "-=",  "*=",  "/=",  "%=",  "&=",  "|=", "^=", "##"};

bool is_letter(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }
bool is_digit(char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; }

class Scanner {
 public:
  explicit Scanner(std::string_view source) : s_(source) {}

  std::vector<Token> run() {
    while (at_ < s_.size()) step();
    return std::move(out_);
  }

 private:
  bool sees(std::string_view what) const { return s_.substr(at_).starts_with(what); }
  void to_end_of(std::string_view what) {
    const std::size_t found = s_.find(what, at_);
    at_ = found == s_.npos ? s_.size() : found + what.size();
  }
  void add(TokenKind kind, std::size_t end) {
    out_.push_back({kind, at_, s_.substr(at_, end - at_)});
    at_ = end;
    line_begins_ = false;
  }
  template <typename Belongs>
  std::size_t end_of(Belongs belongs) const {
    std::size_t end = at_;
    while (end < s_.size() && belongs(end)) ++end;
    return end;
  }

  void step() {
    const char c = s_[at_];
    if (c == '\n') {
      line_begins_ = true;
      ++at_;
    } else if (std::isspace(static_cast<unsigned char>(c)) != 0) {
      ++at_;
    } else if (sees("//")) {
      to_end_of("\n");
      line_begins_ = true;
    } else if (sees("/*")) {
      at_ += 2;
      to_end_of("*/");
    } else if (c == '#' && line_begins_) {
      skip_directive();
    } else if (sees("R\"")) {
      add(TokenKind::kText, end_of_raw_string());
    } else if (c == '"' || c == '\'') {
      add(TokenKind::kText, end_of_quoted(c));
    } else if (is_digit(c)) {
      add(TokenKind::kNumber, end_of([&](std::size_t i) {
            return is_letter(s_[i]) || s_[i] == '.' ||
                   (s_[i] == '\'' && i + 1 < s_.size() && is_letter(s_[i + 1]));
          }));
    } else if (is_letter(c)) {
      add(TokenKind::kWord, end_of([&](std::size_t i) { return is_letter(s_[i]); }));
    } else {
      const auto* mark = std::find_if(std::begin(kMarks), std::end(kMarks),
                                      [&](std::string_view m) { return sees(m); });
      add(TokenKind::kMark, at_ + (mark == std::end(kMarks) ? 1 : mark->size()));
    }
  }

  // To the end of its last line: one that ends in a backslash goes on.
  void skip_directive() {
    do {
      to_end_of("\n");
    } while (at_ < s_.size() && at_ >= 2 && s_[at_ - 2] == '\\');
    line_begins_ = true;
  }

  std::size_t end_of_quoted(char quote) const {
    std::size_t i = at_ + 1;
    while (i < s_.size() && s_[i] != quote && s_[i] != '\n') i += s_[i] == '\\' ? 2 : 1;
    return std::min(i + 1, s_.size());
  }

  std::size_t end_of_raw_string() const {
    const std::size_t open = s_.find('(', at_);
    if (open == s_.npos) return s_.size();
    const std::string close = ')' + std::string(s_.substr(at_ + 2, open - at_ - 2)) + '"';
    const std::size_t found = s_.find(close, open);
    return found == s_.npos ? s_.size() : found + close.size();
  }

  std::string_view s_;
  std::size_t at_ = 0;
  bool line_begins_ = true;  // nothing but blanks since
  std::vector<Token> out_;
};

}  // namespace

std::vector<Token> tokens_of(std::string_view source) { return Scanner(source).run(); }

}  // namespace twinwalk::mutation
