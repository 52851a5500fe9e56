#include "harness/mutation/mutants.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <iterator>
#include <tuple>
#include <utility>

#include "harness/fuzzing/atomic_file.h"
#include "harness/mutation/tokens.h"

namespace twinwalk::mutation {
namespace {

namespace fs = std::filesystem;

struct Swap {
  std::string_view was, change, now;
};
// Operators with two operands.
constexpr Swap kBinary[] = {
    {"<", "boundary", "<="},     {"<=", "boundary", "<"},    {">", "boundary", ">="},
    {">=", "boundary", ">"},     {"==", "equality", "!="},   {"!=", "equality", "=="},
    {"&&", "logic", "||"},       {"||", "logic", "&&"},      {"+", "arithmetic", "-"},
    {"-", "arithmetic", "+"},    {"*", "arithmetic", "+"},   {"/", "arithmetic", "*"},
    {"%", "arithmetic", "/"},    {"<<", "arithmetic", ">>"}, {">>", "arithmetic", "<<"},
    {"&", "bits", "|"},          {"|", "bits", "&"},         {"^", "bits", "|"},
    {"|=", "assignment", "="},   {"&=", "assignment", "="},  {"+=", "assignment", "-="},
    {"-=", "assignment", "+="},  {"^=", "assignment", "="},  {"<<=", "assignment", ">>="},
    {">>=", "assignment", "<<="}};
constexpr std::string_view kNoStatement[] = {
    "return", "if",     "for",   "while",    "do",      "switch",        "case",   "default",
    "using",  "else",   "try",   "goto",     "typedef", "static_assert", "friend", "template",
    "public", "delete", "throw", "operator", "private", "co_return"};
constexpr std::string_view kJumps[] = {"break", "continue", "return"};

template <typename List>
bool has(const List& list, std::string_view what) {
  return std::find(std::begin(list), std::end(list), what) != std::end(list);
}

class Finder {
 public:
  Finder(const std::string& file, std::string_view source)
      : file_(file), source_(source), tokens_(tokens_of(source)) {}

  std::vector<Mutant> run() {
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      if (text(i) == "static_assert") i = closing(i + 1);
      look_at(i);
    }
    return std::move(out_);
  }

 private:
  // "" outside.
  std::string_view text(std::size_t i) const {
    return i < tokens_.size() ? tokens_[i].text : std::string_view();
  }
  bool is_word(std::size_t i) const {
    return i < tokens_.size() && tokens_[i].kind == TokenKind::kWord;
  }
  bool blank_at(std::size_t offset) const {
    return offset < source_.size() &&
           std::isspace(static_cast<unsigned char>(source_[offset])) != 0;
  }

  // Index of the bracket that closes the one at `i`; `i` itself if none does.
  std::size_t closing(std::size_t i) const {
    unsigned depth = 0;
    for (std::size_t j = i; j < tokens_.size(); ++j) {
      const std::string_view t = text(j);
      if (t == "(" || t == "[" || t == "{") ++depth;
      if ((t == ")" || t == "]" || t == "}") && --depth == 0) return j;
    }
    return i;
  }

  void add(std::size_t begin, std::size_t end, std::string_view change, std::string now) {
    Mutant m;
    m.file = file_;
    while (counted_ < begin) {
      if (source_[counted_++] == '\n') ++line_, line_begins_ = counted_;
    }
    m.line = line_;
    m.column = static_cast<unsigned>(begin - line_begins_ + 1);
    m.change = change;
    m.begin = begin;
    m.end = end;
    m.now = std::move(now);
    m.was = source_.substr(begin, end - begin);
    out_.push_back(std::move(m));
  }
  void swap(std::size_t i, std::string_view change, std::string_view now) {
    add(tokens_[i].begin, tokens_[i].end(), change, std::string(now));
  }

  void look_at(std::size_t i) {
    const Token& t = tokens_[i];
    if (begins_statement(i)) statement(i);
    if (t.text == "if" && text(i + 1) == "(") condition(i + 1);
    if (t.kind == TokenKind::kNumber) number(i);
    if (t.text == "true" || t.text == "false")
      swap(i, "constant", t.text == "true" ? "false" : "true");
    if (t.kind != TokenKind::kMark) return;
    if (t.text == "!" && text(i + 1) != "=") swap(i, "negation", "");
    if (t.text == "~" && text(i + 1) != "(" && is_value_after(i)) swap(i, "negation", "");
    if (t.text == "++" || t.text == "--") swap(i, "count", t.text == "++" ? "--" : "++");
    if (!blank_at(t.end()) || t.begin == 0 || !blank_at(t.begin - 1)) return;
    for (const Swap& s : kBinary) {
      if (s.was == t.text) swap(i, s.change, s.now);
    }
  }

  // Not that of a destructor.
  bool is_value_after(std::size_t i) const {
    return !(is_word(i + 1) && text(i + 2) == "(" && text(i + 3) == ")");
  }

  void number(std::size_t i) {
    const std::string t(tokens_[i].text);
    if (t.find('.') != t.npos) return;
    std::size_t used = 0;
    unsigned long long value = 0;
    std::string digits = t;
    digits.erase(std::remove(digits.begin(), digits.end(), '\''), digits.end());
    const bool binary = digits.starts_with("0b");
    try {
      value = std::stoull(binary ? digits.substr(2) : digits, &used, binary ? 2 : 0);
    } catch (const std::exception&) {
      return;
    }
    swap(i, "constant", std::to_string(value + 1) + digits.substr(used + (binary ? 2 : 0)));
  }

  // `open`: the bracket before it.
  void condition(std::size_t open) {
    const std::size_t close = closing(open);
    if (close == open) return;
    const std::size_t begin = tokens_[open].end(), end = tokens_[close].begin;
    const std::string was(source_.substr(begin, end - begin));
    for (std::size_t j = open; j < close; ++j) {
      if (text(j) == ";") return;
    }
    add(begin, end, "always", "true || (" + was + ")");
    add(begin, end, "never", "false && (" + was + ")");
  }

  bool begins_statement(std::size_t i) const {
    if (i == 0) return false;
    const std::string_view before = text(i - 1);
    return before == ";" || before == "{" || before == "}" || before == ")" || before == "else" ||
           before == ":";
  }

  // A call, an assignment, or a jump, that is dropped.
  void statement(std::size_t i) {
    std::size_t j = i;
    if (text(j) == "*" || text(j) == "++" || text(j) == "--") ++j;
    if (!is_word(j)) return;
    const bool jump = has(kJumps, text(j)) && text(j + 1) == ";";
    if (!jump && has(kNoStatement, text(j))) return;
    ++j;
    if (!jump) {
      // A chain of names, calls and subscripts, then what makes it a statement.
      for (;; ++j) {
        if (text(j) == "(" || text(j) == "[") {
          j = closing(j);
        } else if (text(j) == "." || text(j) == "->" || text(j) == "::") {
          ++j;
        } else {
          break;
        }
      }
      const bool assigns = text(j).size() <= 3 && text(j).ends_with("=") && text(j) != "==" &&
                           text(j) != "!=" && text(j) != "<=" && text(j) != ">=";
      const bool counts = text(j) == "++" || text(j) == "--" || text(i) == "++" || text(i) == "--";
      if (!assigns && !counts && !(text(j) == ";" && text(j - 1) == ")")) return;
    }
    while (j < tokens_.size() && text(j) != ";") {
      const std::size_t past = text(j) == "(" || text(j) == "[" || text(j) == "{" ? closing(j) : j;
      if (text(j) == "}" || text(j) == ")") return;  // not a statement after all
      j = past + 1;
    }
    if (j < tokens_.size()) add(tokens_[i].begin, tokens_[j].begin, "drop", "");
  }

  const std::string& file_;
  std::string_view source_;
  std::vector<Token> tokens_;
  std::vector<Mutant> out_;
  unsigned line_ = 1;
  std::size_t line_begins_ = 0, counted_ = 0;
};

std::uint64_t mixed(std::string_view text, std::uint64_t seed) {
  std::uint64_t h = 0xcbf29ce484222325 ^ seed * 0x9e3779b97f4a7c15;
  for (char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  h ^= h >> 33;
  h *= 0xff51afd7ed558ccd;
  return h ^ h >> 29;
}

bool is_tested_source(const fs::path& path) {
  const std::string name = path.filename().string();
  if (path.extension() != ".cc" && path.extension() != ".h") return false;
  for (const fs::path& part : path) {
    if (part == "testing") return false;
  }
  static constexpr std::string_view kOfTests[] = {"testbed", "mode_bed", "nested_bed"};
  return !path.stem().string().ends_with("_test") && !has(kOfTests, path.stem().string()) &&
         name != "bench.cc";
}

}  // namespace

std::string Mutant::id() const { return fmt::format("{}:{}:{}:{}", file, line, column, change); }

std::vector<Mutant> mutants_of(const std::string& file, std::string_view source) {
  std::vector<Mutant> out = Finder(file, source).run();
  std::stable_sort(out.begin(), out.end(), [](const Mutant& a, const Mutant& b) {
    return std::tie(a.begin, a.change) < std::tie(b.begin, b.change);
  });
  return out;
}

std::string with_mutant(std::string_view source, const Mutant& mutant) {
  return fmt::format("{}{}{}", source.substr(0, mutant.begin), mutant.now,
                     source.substr(mutant.end));
}

std::vector<Mutant> mutants_in(const std::string& root, Side side, std::string& error) {
  constexpr std::size_t kMaxSource = 16 << 20;
  std::vector<std::string> files;
  std::error_code bad;
  const fs::path folder = fs::path(root) / (side == Side::kCore ? "mmu_core" : "oracle");
  for (const auto& entry : fs::recursive_directory_iterator(folder, bad)) {
    const fs::path path = entry.path().lexically_relative(root);
    if (entry.is_regular_file(bad) && is_tested_source(path)) files.push_back(path.string());
  }
  std::sort(files.begin(), files.end());
  std::vector<Mutant> out;
  for (const std::string& file : files) {
    std::string source;
    const std::string path = (fs::path(root) / file).string();
    if (!fuzz::read_file(path, kMaxSource, source)) {
      error = "cannot read " + path;
      return {};
    }
    std::vector<Mutant> more = mutants_of(file, source);
    std::move(more.begin(), more.end(), std::back_inserter(out));
  }
  if (out.empty()) error = "no sources in " + folder.string();
  return out;
}

std::vector<Mutant> sample(std::vector<Mutant> all, std::size_t count, std::uint64_t seed) {
  if (count == 0 || count >= all.size()) return all;
  std::vector<std::pair<std::uint64_t, std::size_t>> order;
  for (std::size_t i = 0; i < all.size(); ++i) order.emplace_back(mixed(all[i].id(), seed), i);
  std::sort(order.begin(), order.end());
  order.resize(count);
  std::sort(order.begin(), order.end(),
            [](const auto& a, const auto& b) { return a.second < b.second; });
  std::vector<Mutant> out;
  out.reserve(count);
  for (const auto& [hash, i] : order) out.push_back(std::move(all[i]));
  return out;
}

}  // namespace twinwalk::mutation
