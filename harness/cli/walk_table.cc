#include "harness/cli/walk_table.h"

#include <fmt/format.h>

#include <cstdint>
#include <string_view>

#include "harness/cli/output.h"
#include "harness/trace/print.h"

namespace twinwalk::cli {
namespace {

constexpr std::string_view kLevelNames[] = {"", "PT", "PD", "PDPT", "PML4", "PML5"};
constexpr std::string_view kRow = "      {:<5} {:>5}  {:<12} {:<30} {:<14} {}{}\n";

// What became of an entry: "=", "+a|d", "-d", or the whole new value if one of the bits `whole`
// changed.
template <class Text>
std::string change_text(std::uint64_t before, std::uint64_t after, std::uint64_t whole,
                        const Text& to_text) {
  if (before == after) return "=";
  if (((before ^ after) & whole) != 0) return to_text(after);
  std::string text;
  if (const std::uint64_t set = after & ~before; set != 0) text += "+" + to_text(set);
  if (const std::uint64_t cleared = before & ~after; cleared != 0) {
    text += (text.empty() ? "-" : " -") + to_text(cleared);
  }
  return text;
}
std::string change_text(std::uint64_t before, std::uint64_t after) {
  return change_text(before, after, pte::kAddressMask | pte::kPkeyMask, entry_text);
}

std::string place_text(const oracle::WalkViewStep& step) {
  return fmt::format("{:#x}", step.entry_gpa);
}

// Decoded if it is present: the other bits of an entry that is not mean nothing to the processor.
std::string value_text(std::uint64_t entry) {
  return (entry & pte::kP) != 0 ? entry_text(entry) : fmt::format("{:#x}", entry);
}

std::string remark_of(const oracle::WalkViewStep& step) {
  std::string text;
  if ((step.entry & pte::kP) == 0) {
    text = "not present";
  } else if (step.reserved) {
    text = fmt::format("reserved: {} (\"{}\")", entry_text(step.reserved_bits), step.format);
  }
  // A 4M page whose address has PSE-36 bits.
  if (step.leaf && step.frame >> 32 != 0 && step.entry >> 32 == 0)
    text = fmt::format("page at {:#x}", step.frame);
  if (!step.memory_differs) return text;
  return fmt::format("{}{}the register; memory holds {}", text, text.empty() ? "" : "; ",
                     value_text(step.in_memory));
}

// "user, read-only, executable, key 3": what all entries together allow.
std::string rights_text(const oracle::WalkViewPart& part) {
  if (part.steps.empty()) return "all: paging is off";
  const oracle::WalkViewStep& last = part.steps.back();
  std::string text = fmt::format("{}, {}, {}", last.user ? "user" : "supervisor",
                                 last.writable ? "writable" : "read-only",
                                 last.executable ? "executable" : "not executable");
  if (part.pkey != 0) text += fmt::format(", key {}", part.pkey);
  return text;
}

std::string nested_row(Nesting kind, unsigned level, std::uint64_t at, std::string_view entry,
                       std::string_view by_reference, std::string_view by_subject,
                       const std::string& remark) {
  const Tone tone = by_reference == by_subject || by_reference.empty() ? Tone::kPlain : Tone::kNote;
  return fmt::format(kRow, fmt::format("{}{}", kind == Nesting::kNpt ? "NPT" : "EPT", level),
                     at / 8 % 512, fmt::format("{:#x}", at), entry, by_reference,
                     paint(tone, by_subject),
                     remark.empty() ? "" : paint(Tone::kNote, "  <- " + remark));
}

std::string target_text(std::uint64_t hpa) { return fmt::format("hpa {:#x}", hpa); }

// As the reference walks it, and what the subject made of the same entries.
std::string nested_table(const oracle::NestedView& view, const NestedLook& nested) {
  const NestedPath* left = nested.find(view.gpa);
  std::string text;
  for (std::size_t i = 0; i < view.steps.size(); ++i) {
    const oracle::NestedViewStep& s = view.steps[i];
    std::string by_subject;
    if (left != nullptr && i < left->count && left->at[i] == s.at)
      by_subject = nested_change(nested.kind, s.entry, left->entry[i]);
    const bool last = i + 1 == view.steps.size();
    const std::string remark = !s.present        ? "not present"
                               : s.misconfigured ? fmt::format("malformed (\"{}\")", s.format)
                               : last && view.translates ? target_text(view.hpa)
                                                         : "";
    text +=
        nested_row(nested.kind, s.level, s.at,
                   s.present ? nested_text(nested.kind, s.entry) : fmt::format("{:#x}", s.entry),
                   nested_change(nested.kind, s.entry, s.after), by_subject, remark);
  }
  return text;
}

// As the subject alone has it.
std::string nested_table(const NestedPath& path, Nesting kind) {
  std::string text;
  for (unsigned i = 0; i < path.count; ++i) {
    const bool last = i + 1u == path.count;
    text += nested_row(kind, path.levels - i, path.at[i], "", "", nested_text(kind, path.entry[i]),
                       !last        ? ""
                       : path.leads ? target_text(path.hpa)
                                    : "translates nothing");
  }
  return text;
}

// How the processor got at guest-physical address `gpa`, if that went through a second dimension.
std::string nested_walk(std::uint64_t gpa, const oracle::NestedView& view,
                        const NestedLook& nested) {
  if (nested.kind == Nesting::kNone) return "";
  const NestedPath* left = nested.find(gpa);
  std::string rows;
  if (!view.steps.empty()) {
    rows = nested_table(view, nested);
  } else if (left != nullptr) {
    rows = nested_table(*left, nested.kind);
  }
  if (rows.empty()) return "";
  return fmt::format("      {}\n", paint(Tone::kDim, fmt::format("gpa {:#x}", gpa))) + rows;
}

}  // namespace

std::string nested_text(Nesting kind, std::uint64_t entry) {
  return kind == Nesting::kNpt ? entry_text(entry) : bits_text(entry, ept::kNames);
}

std::string nested_change(Nesting kind, std::uint64_t before, std::uint64_t after) {
  return change_text(before, after, pte::kAddressMask,
                     [kind](std::uint64_t entry) { return nested_text(kind, entry); });
}

oracle::AccessQuery access_query(const Op& op, const Registers& registers) {
  oracle::AccessQuery query;
  query.gva = op.gva;
  query.size = static_cast<std::uint8_t>(op.size);
  query.kind = op.access();
  query.implicit = op.implicit != 0;
  query.value = op.value;
  query.registers = registers;
  if (op.gives(Field::kCpl)) query.registers.cpl = static_cast<std::uint8_t>(op.cpl);
  return query;
}

std::string walk_table(const oracle::WalkViewPart& part, const Path& wanted, const Path& left,
                       const NestedLook& nested) {
  std::string text = paint(Tone::kDim, fmt::format(kRow, "level", "index", "at", "entry before",
                                                   "reference", "subject", ""));
  // A subject shows a walk of memory, which is another one where a PDPTE register differs.
  const bool apart = !part.steps.empty() && part.steps[0].memory_differs;
  for (std::size_t i = 0; i < part.steps.size(); ++i) {
    const oracle::WalkViewStep& step = part.steps[i];
    const std::string by_reference =
        i < wanted.count ? change_text(step.entry, wanted.entry[i]) : "";
    const std::string by_subject = apart            ? "not shown"
                                   : i < left.count ? change_text(step.entry, left.entry[i])
                                                    : "";
    std::string remark = remark_of(step);
    if (!remark.empty()) remark = paint(Tone::kNote, fmt::format("  <- {}", remark));
    const Tone tone = by_reference == by_subject ? Tone::kPlain : Tone::kNote;
    if (!step.from_register) text += nested_walk(step.entry_gpa, step.nested, nested);
    text += fmt::format(kRow, kLevelNames[step.level], step.index, place_text(step),
                        value_text(step.entry), by_reference, paint(tone, by_subject), remark);
  }
  if (const std::uint64_t last = part.translates ? part.gpa : part.nested.gpa;
      part.translates || !part.nested.steps.empty()) {
    text += nested_walk(last, part.nested, nested);
  }
  if (part.table_without_memory) text += "      the next table has no memslot behind it\n";
  if (part.translates) {
    text += fmt::format("      {:<11} {}; {:#x} is gpa {:#x}\n", "rights", rights_text(part),
                        part.gva, part.gpa);
  }
  return text;
}

std::string former_entries(const oracle::WalkViewStale& stale) {
  std::string text;
  for (const oracle::WalkViewStep& step : stale.steps) {
    if (!step.former) continue;
    text += fmt::format("      {:<11} {} entry at {} was {}\n", "stale", kLevelNames[step.level],
                        place_text(step), entry_text(step.entry));
  }
  return text;
}

}  // namespace twinwalk::cli
