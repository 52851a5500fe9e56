#include "harness/trace/parse_line.h"

#include <fmt/format.h>

#include <utility>

#include "harness/trace/value_text.h"

namespace twinwalk::text {
namespace {

bool is_space(char c) { return c == ' ' || c == '\t'; }

}  // namespace

MaybeWrong wrong(const Word& word, std::string message) {
  return Wrong{word.column, std::move(message)};
}

std::string_view trimmed(std::string_view s) {
  while (!s.empty() && is_space(s.front())) s.remove_prefix(1);
  while (!s.empty() && is_space(s.back())) s.remove_suffix(1);
  return s;
}

// RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.
std::size_t utf8_length(std::string_view s) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(s[i]); };
  const unsigned lead = at(0);
  if (lead < 0x80) return 1;
  const std::size_t length = lead < 0xc2   ? 0
                             : lead < 0xe0 ? 2
                             : lead < 0xf0 ? 3
                             : lead < 0xf5 ? 4
                                           : 0;
  if (!length || s.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((at(i) & 0xc0) != 0x80) return 0;
  }
  const unsigned second = at(1);
  if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f)) return 0;
  if ((lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f)) return 0;
  return length;
}

std::string_view split(std::string_view line, std::vector<Word>& words) {
  words.clear();
  for (std::size_t i = 0; i < line.size();) {
    if (is_space(line[i])) {
      ++i;
      continue;
    }
    if (line[i] == '#') return trimmed(line.substr(i));
    const std::size_t begin = i;
    while (i < line.size() && !is_space(line[i])) ++i;
    words.push_back({line.substr(begin, i - begin), begin + 1});
  }
  return {};
}

MaybeWrong read_expectation(const Word& rest, std::string& out) {
  static constexpr std::string_view kFirst[] = {
      "done",          "ok",   "#PF",      "#GP",     "#SS",
      "#UD",           "mmio", "refused",  "skip",    "ept-violation",
      "ept-misconfig", "#NPF", "pml-full", "vm-fail", "memory-fault"};
  out.clear();
  for (std::string_view left = trimmed(rest.text); !left.empty();) {
    const std::size_t end = left.find_first_of(" \t");
    if (!out.empty()) out += ' ';
    out += left.substr(0, end);
    left = end == left.npos ? std::string_view() : trimmed(left.substr(end));
  }
  const std::string_view first = std::string_view(out).substr(0, out.find(' '));
  std::string names;
  for (const std::string_view name : kFirst) {
    if (first == name) return {};
    names += fmt::format("{}{}", names.empty() ? "" : ", ", name);
  }
  return wrong(rest, fmt::format("found {} after `=`; allowed: {}", quoted(first), names));
}

}  // namespace twinwalk::text
