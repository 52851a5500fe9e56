#include "harness/trace/value_text.h"

#include <fmt/format.h>

#include <charconv>
#include <system_error>

namespace twinwalk::text {
namespace {

constexpr std::size_t kMaxQuoted = 40;

Value wrong(std::string_view found, std::string_view allowed, std::size_t offset = 0) {
  return {0, fmt::format("found {}; allowed: {}", quoted(found), allowed), offset};
}

const BitName* find(std::span<const BitName> names, std::string_view text) {
  for (const BitName& n : names) {
    if (n.name == text) return &n;
  }
  return nullptr;
}

std::optional<std::uint64_t> read_level(std::string_view text) {
  if (text == "4K") return 1;
  if (text == "2M") return 2;
  if (text == "1G") return 3;
  return std::nullopt;
}

// pk0 .. pk15
std::optional<std::uint64_t> read_protection_key(std::string_view text) {
  if (text.substr(0, 2) != "pk") return std::nullopt;
  const auto key = read_number(text.substr(2));
  if (!key || *key > 15) return std::nullopt;
  return *key << pte::kPkeyShift;
}

Value read_bits(std::span<const BitName> names, bool keys, std::string_view text) {
  Value out;
  std::size_t begin = 0;
  while (true) {
    const std::size_t end = text.find('|', begin);
    const std::string_view part = text.substr(begin, end - begin);
    if (const BitName* name = find(names, part)) {
      out.number |= name->mask;
    } else if (const auto number = read_number(part)) {
      out.number |= *number;
    } else if (const auto key = read_protection_key(part); keys && key) {
      out.number |= *key;
    } else {
      return wrong(part,
                   fmt::format("{}{} or a number, joined by |", alternatives(names),
                               keys ? ", pk0 to pk15" : ""),
                   begin);
    }
    if (end == text.npos) return out;
    begin = end + 1;
  }
}

// "-pcid|-smap": removes from the default.
Value read_removed(std::span<const BitName> names, std::uint64_t usual, std::string_view text) {
  Value out{usual, {}, 0};
  std::size_t begin = 0;
  while (true) {
    const std::size_t end = text.find('|', begin);
    const std::string_view part = text.substr(begin, end - begin);
    const BitName* name = part.substr(0, 1) == "-" ? find(names, part.substr(1)) : nullptr;
    if (!name) {
      return wrong(
          part, fmt::format("after a first -NAME only more of -NAME with {}", alternatives(names)),
          begin);
    }
    out.number &= ~name->mask;
    if (end == text.npos) return out;
    begin = end + 1;
  }
}

Value read_enum(std::span<const BitName> names, std::string_view text) {
  if (const BitName* name = find(names, text)) return {name->mask, {}, 0};
  return wrong(text, alternatives(names));
}

std::string range_text(std::uint64_t min, std::uint64_t max) {
  return max < 0x10000 ? fmt::format("{} to {}", min, max) : fmt::format("{} to {:#x}", min, max);
}

}  // namespace

std::optional<std::uint64_t> read_number(std::string_view text) {
  const bool hex = text.substr(0, 2) == "0x";
  if (hex) text.remove_prefix(2);
  std::uint64_t value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value, hex ? 16 : 10);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string quoted(std::string_view text) {
  if (text.empty()) return "nothing";
  std::string out = "`";
  for (const char c : text.substr(0, kMaxQuoted)) {
    const auto byte = static_cast<unsigned char>(c);
    out += byte >= 0x20 && byte < 0x7f ? c : '?';
  }
  return out + (text.size() > kMaxQuoted ? "...`" : "`");
}

std::string alternatives(std::span<const BitName> names) {
  std::string out;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (i) out += i + 1 == names.size() ? " or " : ", ";
    out += names[i].name;
  }
  return out;
}

Value read_value(const FieldInfo& field, std::string_view text) {
  Value out;
  std::string allowed = "a number, 0x... or decimal, of at most 64 bits";
  switch (field.kind) {
    case FieldKind::kBits:
    case FieldKind::kRoot:
      out = read_bits(field.names, false, text);
      allowed = fmt::format("{}, joined by |", alternatives(field.names));
      break;
    case FieldKind::kEntry:
    case FieldKind::kData:
      out = read_bits(pte::kNames, true, text);
      break;
    case FieldKind::kEnum:
    case FieldKind::kEnumWord:
    case FieldKind::kRegister:
      return read_enum(field.names, text);
    case FieldKind::kPageLevel:
      if (const auto level = read_level(text)) return {*level, {}, 0};
      return wrong(text, "4K, 2M or 1G");
    default:
      if (field.kind == FieldKind::kBytes)
        allowed = "1, 2, 4 or 8";
      else if (field.kind == FieldKind::kQuota)
        allowed = fmt::format("0, or {}", range_text(kMinQuota, field.max));
      else if (field.kind == FieldKind::kWidth)
        allowed = range_text(kMinWidth, field.max);
      else if (field.max != ~std::uint64_t{0})
        allowed = range_text(0, field.max);
      const auto number = read_number(text);
      if (!number) return wrong(text, allowed);
      out.number = *number;
  }
  if (out.error.empty() && !legal(field, out.number)) return wrong(text, allowed);
  return out;
}

Value read_value(const MachineField& field, std::string_view text) {
  using Kind = MachineField::Kind;
  Value out;
  std::string allowed = range_text(field.min, field.max);
  switch (field.kind) {
    case Kind::kEnum:
      return read_enum(field.names, text);
    case Kind::kBits:
      allowed = fmt::format("{}, joined by |", alternatives(field.names));
      out = text.substr(0, 1) == "-" ? read_removed(field.names, field.get(Machine{}), text)
                                     : read_bits(field.names, false, text);
      break;
    case Kind::kPageLevel:
      if (const auto level = read_level(text)) return {*level, {}, 0};
      return wrong(text, "4K, 2M or 1G");
    case Kind::kMebibytes: {
      allowed = fmt::format("an even number of mebibytes from {}M to {}M", field.min, field.max);
      const bool unit = !text.empty() && text.back() == 'M';
      const auto number = unit ? read_number(text.substr(0, text.size() - 1)) : std::nullopt;
      if (!number) return wrong(text, allowed);
      out.number = *number;
      break;
    }
    default: {
      if (field.kind == Kind::kQuota)
        allowed = fmt::format("0, or {}", range_text(kMinQuota, field.max));
      const auto number = read_number(text);
      if (!number) return wrong(text, allowed);
      out.number = *number;
    }
  }
  if (out.error.empty() && !legal(field, out.number)) return wrong(text, allowed);
  return out;
}

}  // namespace twinwalk::text
