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

// What became of an entry: "=", "+a|d", "-d", or the whole new value if its address or key changed.
std::string change_text(std::uint64_t before, std::uint64_t after) {
  if (before == after) return "=";
  if (((before ^ after) & (pte::kAddressMask | pte::kPkeyMask)) != 0) return entry_text(after);
  std::string text;
  if (const std::uint64_t set = after & ~before; set != 0) text += "+" + entry_text(set);
  if (const std::uint64_t cleared = before & ~after; cleared != 0) {
    text += (text.empty() ? "-" : " -") + entry_text(cleared);
  }
  return text;
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

}  // namespace

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

std::string walk_table(const oracle::WalkViewPart& part, const Path& wanted, const Path& left) {
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
    if (!remark.empty()) remark = paint(Tone::kNote, "  <- " + remark);
    const Tone tone = by_reference == by_subject ? Tone::kPlain : Tone::kNote;
    text += fmt::format(kRow, kLevelNames[step.level], step.index, place_text(step),
                        value_text(step.entry), by_reference, paint(tone, by_subject), remark);
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
