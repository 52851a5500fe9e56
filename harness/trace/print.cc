#include "harness/trace/print.h"

#include <fmt/format.h>

#include <bit>
#include <cstddef>
#include <iterator>

#include "harness/trace/schema.h"

namespace twinwalk {
namespace {

constexpr std::size_t kVerbColumn = 8;  // short verbs are padded so that their fields line up

constexpr std::string_view kPageLevels[] = {"?", "4K", "2M", "1G"};

std::string_view level_text(std::uint64_t level) { return kPageLevels[level <= 3 ? level : 0]; }

std::string_view enum_text(std::span<const BitName> names, std::uint64_t value) {
  for (const BitName& n : names) {
    if (n.mask == value) return n.name;
  }
  return "?";
}

std::string value_text(const FieldInfo& field, std::uint64_t value) {
  switch (field.kind) {
    case FieldKind::kGva:
    case FieldKind::kGpa:
    case FieldKind::kHva:
    case FieldKind::kHex:
      return fmt::format("{:#x}", value);
    case FieldKind::kBits:
    case FieldKind::kRoot:
      return bits_text(value, field.names);
    case FieldKind::kEntry:
      return entry_text(value);
    case FieldKind::kData:
      return value & pte::kP ? entry_text(value) : fmt::format("{:#x}", value);
    case FieldKind::kPageLevel:
      return std::string(level_text(value));
    case FieldKind::kEnum:
    case FieldKind::kEnumWord:
    case FieldKind::kRegister:
      return std::string(enum_text(field.names, value));
    default:
      return fmt::format("{}", value);
  }
}

// Removing few features from the default reads better than naming the many that stay.
std::string features_text(std::uint64_t features, std::uint64_t usual,
                          std::span<const BitName> names) {
  if ((features & ~usual) || std::popcount(usual & ~features) > 4)
    return bits_text(features, names);
  std::string text;
  for (const BitName& n : names) {
    if (!(usual & ~features & n.mask)) continue;
    fmt::format_to(std::back_inserter(text), "{}-{}", text.empty() ? "" : "|", n.name);
  }
  return text;
}

std::string machine_value_text(const MachineField& field, std::uint64_t value) {
  switch (field.kind) {
    case MachineField::Kind::kEnum:
      return std::string(enum_text(field.names, value));
    case MachineField::Kind::kBits:
      return features_text(value, field.get(Machine{}), field.names);
    case MachineField::Kind::kMebibytes:
      return fmt::format("{}M", value);
    case MachineField::Kind::kPageLevel:
      return std::string(level_text(value));
    default:
      return fmt::format("{}", value);
  }
}

void append_op(std::string& text, const Op& op, bool with_vcpu) {
  auto out = std::back_inserter(text);
  const std::size_t start = text.size();
  text += name_of(op.verb);
  const std::size_t verb_end = text.size();
  for (const FieldInfo& raw : schema_of(op.verb).fields) {
    const FieldInfo field = resolve(raw, op);
    if (!says(op, raw)) continue;
    if (text.size() == verb_end && verb_end - start < kVerbColumn) {
      text.append(kVerbColumn - (verb_end - start), ' ');
    }
    const std::string value = value_text(field, op.*field.member);
    if (raw.kind == FieldKind::kRegisterValue) {
      fmt::format_to(out, "={}", value);
    } else if (raw.kind == FieldKind::kRegister || raw.kind == FieldKind::kEnumWord) {
      fmt::format_to(out, " {}", value);
    } else {
      fmt::format_to(out, " {}={}", field.name, value);
    }
  }
  if (with_vcpu && op.vcpu) {
    if (text.size() == verb_end && verb_end - start < kVerbColumn) {
      text.append(kVerbColumn - (verb_end - start), ' ');
    }
    fmt::format_to(out, " vcpu={}", op.vcpu);
  }
}

// Walks comments and expectations beside the operations.
class TracePrinter {
 public:
  explicit TracePrinter(const Trace& trace) : trace_(trace) {}

  std::string print() {
    text_ = "walk 1\n";
    comments_before(Trace::kHeader, "");
    if (!trace_.requires_line.empty()) line("", "requires " + trace_.requires_line);
    for (const std::string& id : trace_.known) line("", "known " + id);
    line("", "machine  " + twinwalk::print(trace_.machine));
    for (std::size_t i = 0; i < trace_.ops.size(); ++i) operation(static_cast<std::uint32_t>(i));
    comments_before(static_cast<std::uint32_t>(trace_.ops.size()), "");
    return std::move(text_);
  }

 private:
  void line(std::string_view indent, std::string_view words) {
    text_ += indent;
    text_ += words;
    text_ += '\n';
  }

  void comments_before(std::uint32_t op, std::string_view indent) {
    // Header comments stand first whatever their number says.
    while (comment_ < trace_.comments.size() && trace_.comments[comment_].op == op) {
      const std::string& words = trace_.comments[comment_++].text;
      line(words.empty() ? "" : indent, words);
    }
  }

  void operation(std::uint32_t index) {
    const Op& op = trace_.ops[index];
    const bool inside = op.point != Point::kNone;
    const bool opens = inside && (index == 0 || trace_.ops[index - 1].point != op.point ||
                                  trace_.ops[index - 1].vcpu != op.vcpu);
    if (opens) {
      std::string at = fmt::format("  at {}", name_of(op.point));
      if (op.vcpu) at += fmt::format(" vcpu={}", op.vcpu);
      line("", at);
    }
    const std::string_view indent = inside ? "    " : "";
    comments_before(index, indent);
    text_ += indent;
    append_op(text_, op, !inside);
    text_ += '\n';
    while (expectation_ < trace_.expectations.size() &&
           trace_.expectations[expectation_].op == index) {
      line(inside ? "      = " : "  = ", trace_.expectations[expectation_++].text);
    }
  }

  const Trace& trace_;
  std::string text_;
  std::size_t comment_ = 0, expectation_ = 0;
};

}  // namespace

std::string bits_text(std::uint64_t value, std::span<const BitName> names) {
  std::uint64_t rest = value;
  std::string text;
  for (const BitName& n : names) {  // a field of several bits has the name that takes most first
    if ((rest & n.mask) != n.mask) continue;
    rest &= ~n.mask;
    if (!text.empty()) text += '|';
    text += n.name;
  }
  if (rest != 0)
    return text.empty() ? fmt::format("{:#x}", rest) : fmt::format("{:#x}|{}", rest, text);
  return text.empty() ? "0" : text;
}

std::string entry_text(std::uint64_t value) {
  const std::uint64_t key = (value & pte::kPkeyMask) >> pte::kPkeyShift;
  std::string text = bits_text(value & ~pte::kPkeyMask, pte::kNames);
  if (!key) return text;
  if (text == "0") return fmt::format("pk{}", key);
  return fmt::format("{}|pk{}", text, key);
}

std::string print(const Op& op) {
  std::string text;
  append_op(text, op, true);
  return text;
}

std::string print(const Machine& machine) {
  const Machine usual;
  std::string text;
  for (const MachineField& f : machine_fields()) {
    const std::uint64_t value = f.get(machine);
    if (!f.always_printed && value == f.get(usual)) continue;
    fmt::format_to(std::back_inserter(text), "{}{}={}", text.empty() ? "" : " ", f.name,
                   machine_value_text(f, value));
  }
  return text;
}

std::string print(const Trace& trace) { return TracePrinter(trace).print(); }

}  // namespace twinwalk
