#include "harness/expectation.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "harness/trace/x86.h"

namespace twinwalk {
namespace {

// Takes the next word, delimited by `by`, off the front; empty at the end.
std::string_view take_word(std::string_view& rest, char by) {
  while (!rest.empty() && rest.front() == by) rest.remove_prefix(1);
  const std::size_t end = std::min(rest.find(by), rest.size());
  const std::string_view word = rest.substr(0, end);
  rest.remove_prefix(end);
  return word;
}

bool has_word(std::string_view text, std::string_view wanted) {
  for (std::string_view word = take_word(text, ' '); !word.empty(); word = take_word(text, ' ')) {
    if (word == wanted) return true;
  }
  return false;
}

// All bits that `names` ("a|d") names are set; false for a name that is none.
bool bits_set(std::string_view names, std::uint64_t entry) {
  for (std::string_view name = take_word(names, '|'); !name.empty(); name = take_word(names, '|')) {
    const auto* found = std::find_if(std::begin(pte::kNames), std::end(pte::kNames),
                                     [&](const BitName& b) { return b.name == name; });
    if (found == std::end(pte::kNames) || !(entry & found->mask)) return false;
  }
  return true;
}

bool set_holds(std::string_view word, const Path& path) {
  constexpr std::string_view kLeaf = "pte=", kUpper = "upper=";
  if (path.count == 0) return false;
  if (word.substr(0, kLeaf.size()) == kLeaf) {
    return bits_set(word.substr(kLeaf.size()), path.entry[path.count - 1]);
  }
  if (word.substr(0, kUpper.size()) != kUpper) return false;
  for (unsigned i = 0; i + 1u < path.count; ++i) {
    if (!bits_set(word.substr(kUpper.size()), path.entry[i])) return false;
  }
  return true;
}

// A value of zero is not printed.
bool is_silent_zero(std::string_view word, const Outcome& outcome) {
  return outcome.value == 0 && (word == "value=0" || word == "value=0x0");
}

// `gpa=` of an access of which the subject cannot tell where it landed.
bool is_untold(std::string_view word, const Outcome& outcome) {
  return outcome.kind == OutcomeKind::kOk && outcome.gpa[0] == kUnknownGpa &&
         word.substr(0, 4) == "gpa=";
}

}  // namespace

bool matches(std::string_view text, const Outcome& outcome) {
  const std::string shown = to_text(outcome);
  std::string_view rest = text, got = shown;
  if (take_word(rest, ' ') != take_word(got, ' ')) return false;
  bool set = false;
  for (std::string_view word = take_word(rest, ' '); !word.empty(); word = take_word(rest, ' ')) {
    if (word == "set") {
      set = true;
    } else if (set) {
      if (!set_holds(word, outcome.path[0])) return false;
    } else if (!has_word(shown, word) && !is_silent_zero(word, outcome) &&
               !is_untold(word, outcome)) {
      return false;
    }
  }
  return true;
}

}  // namespace twinwalk
