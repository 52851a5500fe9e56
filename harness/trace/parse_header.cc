// The lines before the first operation.

#include <fmt/format.h>

#include <span>

#include "harness/trace/parse_line.h"
#include "harness/trace/schema.h"
#include "harness/trace/value_text.h"

namespace twinwalk::text {
namespace {

const MachineField* machine_field(std::string_view name) {
  for (const MachineField& f : machine_fields()) {
    if (f.name == name) return &f;
  }
  return nullptr;
}

// A feature, a vendor, or mode=MODE.
MaybeWrong requirement(const Word& word) {
  static constexpr BitName kModes[] = {
      {"none", 0}, {"32-bit", 1}, {"pae", 2}, {"4-level", 3}, {"5-level", 4}};
  constexpr std::string_view kMode = "mode=";
  const bool mode = word.text.substr(0, kMode.size()) == kMode;
  const std::string_view value = mode ? word.text.substr(kMode.size()) : word.text;
  const std::span<const BitName> vendors = machine_field("vendor")->names;
  const std::span<const BitName> allowed =
      mode ? std::span<const BitName>(kModes) : feature::kNames;
  for (const BitName& n : allowed) {
    if (n.name == value) return {};
  }
  for (const BitName& n : vendors) {
    if (!mode && n.name == value) return {};
  }
  return Wrong{mode ? word.column + kMode.size() : word.column,
               mode ? fmt::format("found {}; allowed: {}", quoted(value), alternatives(kModes))
                    : fmt::format("found {}; allowed: mode=, {}, {}", quoted(value),
                                  alternatives(vendors), alternatives(feature::kNames))};
}

bool is_id(std::string_view text) {
  for (const char c : text) {
    const bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '-' || c == '_' || c == '.';
    if (!fine) return false;
  }
  return true;
}

// Reads one `name=value`; `seen` has a bit for each field that was there already.
MaybeWrong machine_word(const Word& word, std::uint32_t& seen, Machine& out) {
  const std::size_t equals = word.text.find('=');
  const MachineField* field =
      equals == word.text.npos ? nullptr : machine_field(word.text.substr(0, equals));
  if (!field) {
    std::string names;
    for (const MachineField& f : machine_fields()) names += fmt::format(" {}=", f.name);
    return wrong(word, fmt::format("found {}; allowed:{}", quoted(word.text), names));
  }
  const auto index = static_cast<std::uint32_t>(field - machine_fields().data());
  if (seen >> index & 1)
    return wrong(word, fmt::format("found a second {}=; allowed: one", field->name));
  seen |= 1u << index;
  const Value value = read_value(*field, word.text.substr(equals + 1));
  if (!value.error.empty()) {
    return Wrong{word.column + equals + 1 + value.offset,
                 fmt::format("{}: {}", field->name, value.error)};
  }
  field->set(out, value.number);
  return {};
}

}  // namespace

MaybeWrong read_requires(const std::vector<Word>& words, std::string& out) {
  if (words.size() < 2) {
    return wrong(words[0], "found `requires` alone; allowed: mode=, a vendor, names of features");
  }
  for (std::size_t i = 1; i < words.size(); ++i) {
    if (MaybeWrong bad = requirement(words[i])) return bad;
    if (i > 1) out += ' ';
    out += words[i].text;
  }
  return {};
}

MaybeWrong read_known(const std::vector<Word>& words, std::vector<std::string>& out) {
  if (words.size() < 2) return wrong(words[0], "found `known` alone; allowed: ids from the ledger");
  for (std::size_t i = 1; i < words.size(); ++i) {
    if (!is_id(words[i].text)) {
      return wrong(words[i], fmt::format("found {}; an id has letters, digits, - _ and .",
                                         quoted(words[i].text)));
    }
    out.emplace_back(words[i].text);
  }
  return {};
}

MaybeWrong read_machine(const std::vector<Word>& words, Machine& out) {
  std::uint32_t seen = 0;
  const Word* host_bits = nullptr;
  for (std::size_t i = 1; i < words.size(); ++i) {
    if (MaybeWrong bad = machine_word(words[i], seen, out)) return bad;
    if (words[i].text.substr(0, 16) == "host-maxphyaddr=") host_bits = &words[i];
  }
  if (host_bits && out.host_maxphyaddr < out.maxphyaddr) {
    return wrong(*host_bits,
                 fmt::format("host-maxphyaddr: found {}; allowed: {} (maxphyaddr) to 52",
                             out.host_maxphyaddr, out.maxphyaddr));
  }
  reconcile(out);
  return {};
}

}  // namespace twinwalk::text
