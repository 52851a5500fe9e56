#include "harness/cli/walk_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "harness/cli/output.h"
#include "harness/trace/print.h"
#include "oracle/rules.h"

namespace twinwalk::cli {
namespace {

constexpr std::string_view kLevelNames[] = {"", "PT", "PD", "PDPT", "PML4", "PML5"};

// What became of an entry: "=", "+a|d", "-d", or the whole new value if its address changed.
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

// The last byte's page is the second half's.
std::uint64_t address_of_half(const oracle::AccessQuery& query, unsigned half) {
  return half == 0 ? query.gva : (query.gva + query.size - 1) & ~std::uint64_t{0xfff};
}

bool ends_walk(std::uint64_t entry, unsigned level) {
  return (entry & pte::kP) == 0 || level == 1 || (level <= 3 && (entry & pte::kPs) != 0);
}

}  // namespace

std::string walk_table(const oracle::Spec& spec, const oracle::AccessQuery& query, unsigned half,
                       const oracle::FreshOutcome& fresh, const Outcome& got) {
  const std::uint64_t gva = address_of_half(query, half);
  const Path& wanted = fresh.path[half];
  const Path& left = got.path[half];
  std::string text =
      paint(Tone::kDim, fmt::format("      {:<5} {:>5}  {:<12} {:<30} {:<14} {}\n", "level",
                                    "index", "at", "entry before", "reference", "subject"));
  std::uint64_t table = query.registers.cr3 & pte::kAddressMask;
  unsigned level = 4;
  for (unsigned i = 0; i < std::max(wanted.count, left.count) && level != 0; ++i, --level) {
    const std::uint64_t index = (gva >> (12 + 9 * (level - 1))) & 511;
    const std::uint64_t before = spec.read_word(table + index * 8);
    const std::string by_reference = i < wanted.count ? change_text(before, wanted.entry[i]) : "";
    const std::string by_subject = i < left.count ? change_text(before, left.entry[i]) : "";
    // Where nobody sets anything both columns say "=", which is no news; a difference is.
    const bool same = by_reference == by_subject;
    text += fmt::format("      {:<5} {:>5}  {:<12} {:<30} {:<14} {}\n", kLevelNames[level], index,
                        fmt::format("{:#x}", table + index * 8), entry_text(before), by_reference,
                        paint(same ? Tone::kPlain : Tone::kNote, by_subject));
    if (ends_walk(before, level)) break;
    table = before & pte::kAddressMask;
  }
  return text;
}

std::string rights_text(const Path& path, bool complete) {
  if (!complete || path.count == 0) return "";
  std::uint64_t every = ~std::uint64_t{0}, any = 0;
  for (unsigned i = 0; i < path.count; ++i) every &= path.entry[i], any |= path.entry[i];
  return fmt::format("{}, {}, {}", (every & pte::kU) != 0 ? "user" : "supervisor",
                     (every & pte::kW) != 0 ? "writable" : "read-only",
                     (any & pte::kXd) != 0 ? "not executable" : "executable");
}

const Rule* deciding_rule(const oracle::AccessQuery& query, const oracle::FreshOutcome& fresh) {
  namespace rules = oracle::rules;
  if (fresh.kind == OutcomeKind::kGp || fresh.kind == OutcomeKind::kSs) return &rules::kCanonical;
  if (fresh.kind == OutcomeKind::kMmio) return &rules::kVirtual29;
  if (fresh.kind != OutcomeKind::kPageFault) return &rules::kRights;
  if ((fresh.error_code & pfec::kP) == 0) return &rules::kPresent;
  if ((fresh.error_code & pfec::kRsvd) != 0) return &rules::kReserved;
  if ((fresh.error_code & pfec::kPk) != 0) return &rules::kProtectionKeys;

  const Registers& registers = query.registers;
  std::uint64_t every = ~std::uint64_t{0};
  const bool second = (fresh.cr2 & ~std::uint64_t{0xfff}) != (query.gva & ~std::uint64_t{0xfff});
  const Path& path = fresh.path[second ? 1 : 0];
  for (unsigned i = 0; i < path.count; ++i) every &= path.entry[i];
  const bool user_page = (every & pte::kU) != 0;
  const bool user_mode = registers.cpl == 3 && !query.implicit;
  const bool fetch = query.kind == AccessKind::kFetch;
  if (user_mode && !user_page) return &rules::kRights;
  if (fetch && !user_mode && user_page && (registers.cr4 & cr4::kSmep) != 0) return &rules::kSmep;
  if (fetch) return &rules::kNoExecute;
  const bool guarded = query.implicit || !registers.ac;
  if (!user_mode && user_page && (registers.cr4 & cr4::kSmap) != 0 && guarded) return &rules::kSmap;
  return user_mode ? &rules::kRights : &rules::kWriteProtect;
}

}  // namespace twinwalk::cli
