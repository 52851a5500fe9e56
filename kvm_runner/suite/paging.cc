#include "kvm_runner/suite/paging.h"

#include <fmt/format.h>

namespace twinwalk::suite {

const Paging& paging_of(Mode mode) {
  // In the order of Mode.
  static constexpr Paging kPagings[] = {
      {Mode::kNone, 0, 0, 0, "0", "0", "", false},
      {Mode::k32Bit, 2, 4, 10, "pse", "0", "4m", false},
      {Mode::kPae, 3, 8, 9, "pae", "0", "2m", false},
      {Mode::k4Level, 4, 8, 9, "pae", "lme|lma", "2m", true},
      {Mode::k5Level, 5, 8, 9, "pae|la57", "lme|lma", "2m", true},
  };
  return kPagings[static_cast<unsigned>(mode)];
}

std::string Paging::store(std::uint64_t gpa, std::string_view value, std::string_view rest) const {
  return fmt::format("write gpa={:#x} value={}{}{}\n", gpa, value,
                     entry_bytes == 4 ? " size=4" : "", rest);
}

std::string Paging::edit(unsigned level, std::uint64_t gva, std::string_view value,
                         std::string_view rest) const {
  std::string text = store(table(level) + offset(level, gva), value, rest);
  if (mode == Mode::kPae && level == levels) text += fmt::format("mov cr3={:#x}\n", kInitialCr3);
  return text;
}

std::string Paging::entry(std::uint64_t gpa, std::string_view bits) {
  return fmt::format("{:#x}|{}", gpa, bits);
}

ConformCase text_case(const Paging& paging, std::string name, std::string_view body,
                      std::string_view machine) {
  std::string words(machine);
  if (paging.mode != Mode::k4Level)
    words =
        fmt::format("mode={}{}{}", twinwalk::name_of(paging.mode), words.empty() ? "" : " ", words);
  std::string text = "walk 1\n";
  if (!words.empty()) text += "machine " + words + "\n";
  return {std::move(name), text + std::string(body)};
}

void add_both_rings(Cases& cases, const Paging& paging, const std::string& name,
                    std::string_view body, std::string_view machine) {
  for (const char ring : {'0', '3'}) {
    std::string text(body);
    for (char& c : text) {
      if (c == '$') c = ring;
    }
    cases.push_back(text_case(paging, name + "-cpl" + ring, text, machine));
  }
}

std::string joined(std::initializer_list<std::string_view> parts) {
  std::string text;
  for (const std::string_view part : parts) text += part;
  return text;
}

std::string every_kind(std::uint64_t gva, int cpl) {
  std::string text;
  for (const char* kind : {"read", "write", "fetch", "rmw"})
    text += fmt::format("access {} gva={:#x} cpl={}\n", kind, gva, cpl);
  return text;
}

}  // namespace twinwalk::suite
