#include "oracle/unicorn/compare.h"

#include <fmt/format.h>

#include <algorithm>

#include "harness/trace/content.h"
#include "harness/trace/x86.h"

namespace twinwalk::oracle::unicorn {
namespace {

constexpr std::uint64_t kPageMask = 0xfff;

// Registers without what decides no translation, so that few contexts serve many traces.
struct Deciding {
  std::uint64_t cr0, cr4, efer;
};
constexpr std::uint64_t kCr0Fixed = cr0::kPe | cr0::kEt | cr0::kNe;
// With paging off nothing decides; that these bits of CR4 do not is checked with the others.
constexpr std::uint64_t kRights = cr4::kSmep | cr4::kSmap | cr4::kPke;
constexpr Deciding kPagingOff = {0, kRights, 0};
constexpr Deciding kLegacy = {cr0::kWp | cr0::kPg, kRights | cr4::kPse | cr4::kPae | cr4::kPge,
                              efer::kNxe};
constexpr Deciding kLongMode = {kLegacy.cr0, kLegacy.cr4 | cr4::kLa57 | cr4::kPcide,
                                efer::kLme | efer::kLma | efer::kNxe};

Outcome outcome_of(const AccessQuery& query, const FreshOutcome& fresh) {
  Outcome outcome;
  outcome.kind = fresh.kind;
  outcome.write = query.kind == AccessKind::kWrite || query.kind == AccessKind::kRmw;
  outcome.error_code = fresh.error_code;
  outcome.cr2 = fresh.cr2;
  std::copy(std::begin(fresh.gpa), std::end(fresh.gpa), outcome.gpa);
  outcome.value = fresh.value;
  return outcome;
}

Outcome outcome_of(const AccessQuery& query, const Result& result) {
  Outcome outcome;
  outcome.kind = kind_of(result);
  outcome.write = query.kind == AccessKind::kWrite || query.kind == AccessKind::kRmw;
  outcome.error_code = result.error_code;
  if (result.event == Event::kCompleted) {
    outcome.value = result.value;
  } else {
    outcome.cr2 = result.address;
    outcome.gpa[0] = result.event == Event::kUnmapped ? result.address : kUnknownGpa;
  }
  return outcome;
}

std::string text_of(const AccessQuery& query, const Result& result) {
  if (result.event == Event::kEngineError)
    return fmt::format("error {} inside Unicorn", result.vector);
  if (kind_of(result) == OutcomeKind::kSkip) return fmt::format("exception {}", result.vector);
  return to_text(outcome_of(query, result));
}

std::string hex(std::uint64_t value) { return fmt::format("{:#x}", value); }

std::optional<Difference> compare_fault(const AccessQuery& query, const FreshOutcome& fresh,
                                        const Result& result) {
  if (fresh.error_code != result.error_code) {
    return Difference{"error-code", to_text(outcome_of(query, fresh)), text_of(query, result)};
  }
  // Of an access in two pages only the page that faults is architectural, not the address within
  // it.
  const std::uint64_t mask = crosses(query) ? ~kPageMask : ~std::uint64_t{0};
  if (((fresh.cr2 ^ result.address) & mask) != 0)
    return Difference{"cr2", hex(fresh.cr2), hex(result.address)};
  return std::nullopt;
}

// Where spec's walk of that page leads, by its entries; kUnknownGpa if it leads nowhere.
std::uint64_t led_to(const AccessQuery& query, const FreshOutcome& fresh, unsigned page) {
  const TableLayout& layout = layout_of(query);
  const Path& path = fresh.path[page];
  const std::uint64_t gva = layout.linear(page ? (query.gva | kPageMask) + 1 : query.gva);
  if (layout.levels == 0) return gva;
  if (path.count == 0 || path.count > layout.levels) return kUnknownGpa;
  const std::uint64_t leaf = path.entry[path.count - 1];
  const unsigned level = layout.levels + 1 - path.count;
  if ((leaf & pte::kP) == 0 || !layout.is_leaf(leaf, level, query.registers.cr4))
    return kUnknownGpa;
  const std::uint64_t offset = (std::uint64_t{1} << layout.shift(level)) - 1;
  return layout.frame(leaf, level) | (gva & offset);
}

bool in_first_page(const AccessQuery& query, std::uint64_t gva) {
  return ((gva ^ query.gva) & ~kPageMask) == 0;
}

// Is that entry the one that maps the page `of`? Through a self-map it serves at other steps too,
// of either page, where it has the same value.
bool is_leaf_of(const FreshOutcome& fresh, unsigned of, unsigned page, unsigned entry) {
  const Path& path = fresh.path[of];
  return path.count != 0 && fresh.path[page].entry[entry] == path.entry[path.count - 1];
}

// A and D bits that the processor may have set, or not, beside what spec's path shows. On a fault:
// A anywhere on the path, and D in the leaf of the first page when it is the second that faults.
// SDM 3A §"Accessed and Dirty Flags".
std::uint64_t open_bits(const AccessQuery& query, const FreshOutcome& fresh, unsigned page,
                        unsigned entry) {
  if (fresh.kind == OutcomeKind::kOk) return 0;
  if ((fresh.path[page].entry[entry] & pte::kP) == 0) return 0;
  // A PDPTE of PAE paging has neither.
  if (entry == 0 && layout_of(query).mode == Mode::kPae) return 0;
  if (fresh.kind == OutcomeKind::kMmio) {
    // Unicorn stops where it first finds no memory: it has not come to the second page, nor to the
    // store of a read-modify-write.
    const std::uint64_t first = led_to(query, fresh, 0);
    const bool second_unseen = page == 1 && ((first ^ fresh.gpa[0]) & ~kPageMask) == 0;
    const bool store_unseen =
        query.kind == AccessKind::kRmw &&
        (is_leaf_of(fresh, 0, page, entry) || is_leaf_of(fresh, 1, page, entry));
    return second_unseen ? pte::kA | pte::kD : store_unseen ? std::uint64_t{pte::kD} : 0;
  }
  const bool other_page_faults =
      crosses(query) &&
      (fresh.kind != OutcomeKind::kPageFault || !in_first_page(query, fresh.cr2)) &&
      query.kind != AccessKind::kRead;
  return pte::kA |
         (other_page_faults && is_leaf_of(fresh, 0, page, entry) ? std::uint64_t{pte::kD} : 0);
}

// Where the entries of one page's path lie.
struct PathPlaces {
  std::uint64_t gpa[kMostLevels] = {};
};
PathPlaces places_of(const AccessQuery& query, const TableLayout& layout, const Path& path,
                     unsigned page) {
  PathPlaces places;
  const std::uint64_t gva = page != 0 ? (query.gva | kPageMask) + 1 : query.gva;
  std::uint64_t table = layout.root(query.registers.cr3);
  for (unsigned i = 0; i < path.count && i < layout.levels; ++i) {
    places.gpa[i] = layout.entry_gpa(table, gva, layout.levels - i);
    table = layout.next_table(path.entry[i]);
  }
  return places;
}

// Where the first part of an access in two pages lies over an entry of the second page: A and D
// that the walk of the second sets there may be read, or not. No order of the two is architectural.
std::uint64_t open_in_value(const AccessQuery& query, const FreshOutcome& fresh) {
  if (!crosses(query)) return 0;
  const TableLayout& layout = layout_of(query);
  const std::uint64_t first = led_to(query, fresh, 0);
  const std::uint64_t room = kPageMask + 1 - (query.gva & kPageMask);
  const Path& second = fresh.path[1];
  const PathPlaces places = places_of(query, layout, second, 1);
  std::uint64_t open = 0;
  for (unsigned i = layout.mode == Mode::kPae ? 1 : 0; i < second.count; ++i) {
    const std::uint64_t byte = places.gpa[i] - first;
    if (byte < room) open |= (pte::kA | pte::kD) << (8 * byte);
  }
  return open;
}

std::optional<Difference> compare_data(const AccessQuery& query, const FreshOutcome& fresh,
                                       const Result& result) {
  if (query.kind == AccessKind::kFetch) {
    const std::uint64_t moved = extract(fresh.value, 1, 4);  // a seed word is MOV EAX, these bytes
    if (moved != extract(result.value, 0, 4))
      return Difference{"value", hex(moved), hex(extract(result.value, 0, 4))};
    return std::nullopt;
  }
  std::uint64_t read = fresh.value;
  if (query.kind != AccessKind::kWrite && read != result.value) {
    if ((read ^ result.value) & ~open_in_value(query, fresh))
      return Difference{"value", hex(fresh.value), hex(result.value)};
    read = result.value;
  }
  if (query.kind == AccessKind::kRead) return std::nullopt;
  const std::uint64_t wanted =
      extract(query.kind == AccessKind::kRmw ? read + query.value : query.value, 0, query.size);
  if (wanted != result.stored)
    return Difference{"value", "stored " + hex(wanted), "stored " + hex(result.stored)};
  return std::nullopt;
}

// The store lands in this very entry: spec's path shows it as the walk leaves it, Unicorn's memory
// as the store does; the value is compared by itself.
bool stored_over(const AccessQuery& query, const FreshOutcome& fresh, std::uint64_t entry_gpa,
                 unsigned entry_bytes) {
  if (fresh.kind != OutcomeKind::kOk && fresh.kind != OutcomeKind::kMmio) return false;
  if (query.kind != AccessKind::kWrite && query.kind != AccessKind::kRmw) return false;
  const std::uint64_t room = kPageMask + 1 - (query.gva & kPageMask);
  for (unsigned page = 0; page < (crosses(query) ? 2u : 1u); ++page) {
    const std::uint64_t gpa = led_to(query, fresh, page);
    const std::uint64_t here = page ? query.size - room : std::min<std::uint64_t>(query.size, room);
    if (gpa != kUnknownGpa && gpa < entry_gpa + entry_bytes && entry_gpa < gpa + here) return true;
  }
  return false;
}

}  // namespace

bool meets_own_path(const AccessQuery& query, const FreshOutcome& fresh) {
  const TableLayout& layout = layout_of(query);
  for (unsigned page = 0; page < 2; ++page) {
    const PathPlaces places = places_of(query, layout, fresh.path[page], page);
    for (unsigned i = 0; i < fresh.path[page].count; ++i)
      if (stored_over(query, fresh, places.gpa[i], layout.entry_bytes)) return true;
  }
  return false;
}

namespace {

// An entry may serve at several steps, of either page, as a self-map makes it: it has the open bits
// of each.
std::uint64_t open_bits_at(const AccessQuery& query, const FreshOutcome& fresh,
                           const PathPlaces* places, std::uint64_t entry_gpa) {
  std::uint64_t open = 0;
  for (unsigned page = 0; page < (crosses(query) ? 2u : 1u); ++page)
    for (unsigned i = 0; i < fresh.path[page].count; ++i)
      if (places[page].gpa[i] == entry_gpa) open |= open_bits(query, fresh, page, i);
  return open;
}

std::optional<Difference> compare_path(const AccessQuery& query, const FreshOutcome& fresh,
                                       const Result* results) {
  const TableLayout& layout = layout_of(query);
  const PathPlaces places[2] = {places_of(query, layout, fresh.path[0], 0),
                                places_of(query, layout, fresh.path[1], 1)};
  for (unsigned page = 0; page < (crosses(query) ? 2u : 1u); ++page) {
    const Path& want = fresh.path[page];
    const Result& got = results[page];
    for (unsigned i = 0; i < want.count && i < got.entries; ++i) {
      const std::uint64_t at = places[page].gpa[i];
      if (stored_over(query, fresh, at, layout.entry_bytes)) continue;
      const std::uint64_t differ = want.entry[i] ^ got.entry[i];
      if (differ == 0) continue;
      // Of an access that spec says completes the path shows what is set, else what was before.
      const bool done = fresh.kind == OutcomeKind::kMmio;
      const std::uint64_t open = open_bits_at(query, fresh, places, at);
      if ((differ & ~open) == 0 && (done || (differ & want.entry[i]) == 0)) continue;
      const bool flags = (differ & ~(pte::kA | pte::kD)) == 0;
      return Difference{flags ? "accessed-dirty" : "image", hex(want.entry[i]), hex(got.entry[i])};
    }
  }
  return std::nullopt;
}

// Does what a store in two pages puts into the first change how the second is translated?
bool changes_second_path(const AccessQuery& query, const FreshOutcome& fresh) {
  const TableLayout& layout = layout_of(query);
  const std::uint64_t first = led_to(query, fresh, 0);
  const std::uint64_t room = kPageMask + 1 - (query.gva & kPageMask);
  const PathPlaces places = places_of(query, layout, fresh.path[1], 1);
  for (unsigned i = 0; i < fresh.path[1].count; ++i)
    if (first < places.gpa[i] + layout.entry_bytes && places.gpa[i] < first + room) return true;
  return false;
}

}  // namespace

bool crosses(const AccessQuery& q) {
  return q.kind != AccessKind::kFetch && (q.gva & kPageMask) + q.size > kPageMask + 1;
}

std::string_view not_expressible(const AccessQuery& q, const FreshOutcome& fresh,
                                 std::uint64_t memory_bytes) {
  if (q.implicit) return "an implicit supervisor access";
  if (q.size != 1 && q.size != 2 && q.size != 4 && q.size != 8)
    return "no instruction of this size";
  // SDM 3A §"Linear Addresses": whether it goes on at 0 is the processor's own affair.
  if (!layout_of(q).long_mode() && q.gva + q.size > std::uint64_t{1} << 32)
    return "an access across the end of 32-bit linear addresses";
  switch (fresh.kind) {
    case OutcomeKind::kOk:
    case OutcomeKind::kPageFault:
    case OutcomeKind::kGp:
      break;
    case OutcomeKind::kMmio:
      // Unicorn has all of memslot 0, also when the trace took it away or made it read-only.
      if (fresh.gpa[0] < memory_bytes) return "memory that the trace took away";
      if (crosses(q) && ((led_to(q, fresh, 1) ^ fresh.gpa[0]) & ~kPageMask) == 0 &&
          led_to(q, fresh, 0) >= memory_bytes &&
          ((led_to(q, fresh, 0) ^ fresh.gpa[0]) & ~kPageMask) != 0) {
        return "memory that the trace added";
      }
      break;
    default:
      return "an outcome that is no access";
  }
  if (q.kind == AccessKind::kFetch && fresh.path[1].count != 0) return "a fetch from two pages";
  return {};
}

const TableLayout& layout_of(const AccessQuery& query) {
  const Registers& r = query.registers;
  return layout_of(mode_of(r.cr0, r.cr4, r.efer));
}

RegisterRecord registers_of(const Registers& r) {
  const TableLayout& layout = layout_of(mode_of(r.cr0, r.cr4, r.efer));
  const Deciding& deciding = layout.long_mode()   ? kLongMode
                             : layout.levels != 0 ? kLegacy
                                                  : kPagingOff;
  RegisterRecord record{};
  record.cr0 = (r.cr0 & deciding.cr0) | kCr0Fixed;
  record.cr4 = r.cr4 & deciding.cr4;
  record.efer = r.efer & deciding.efer;
  record.cr3 = r.cr3 & (layout.root_mask | ((record.cr4 & cr4::kPcide) != 0 ? cr3::kPcidMask : 0));
  record.pkru = (record.cr4 & cr4::kPke) != 0 ? r.pkru : 0;
  record.cpl = r.cpl;
  record.ac = r.ac ? 1 : 0;
  return record;
}

bool take_pdptes(const AccessQuery& query, const FreshOutcome& fresh, PdpteRecord& pdptes) {
  bool changed = false;
  for (unsigned page = 0; page < (crosses(query) ? 2u : 1u); ++page) {
    const Path& path = fresh.path[page];
    const std::uint64_t gva = page != 0 ? (query.gva | kPageMask) + 1 : query.gva;
    std::uint64_t& pdpte = pdptes.pdpte[gva >> 30 & 3];
    if (path.count == 0 || pdpte == path.entry[0]) continue;
    pdpte = path.entry[0];
    changed = true;
  }
  return changed;
}

Record record_of(const AccessQuery& q, const FreshOutcome& fresh) {
  Record record{};
  record.kind = RecordKind::kAccess;
  record.access = static_cast<std::uint8_t>(q.kind);
  record.size = q.size;
  record.must_succeed = fresh.kind == OutcomeKind::kOk ? 1 : 0;
  record.must_fault = fresh.kind != OutcomeKind::kOk && fresh.kind != OutcomeKind::kMmio ? 1 : 0;
  for (unsigned i = 0; i < 2; ++i) {
    record.entries[i] = fresh.path[i].count;
    record.target.gpa[i] = record.must_succeed != 0 ? fresh.gpa[i] : kNowhere;
  }
  record.target.address = q.gva;
  record.target.value = q.value;
  // An instruction begins where its word does. Where spec has it succeed, the page is all that its
  // address decides.
  if (q.kind == AccessKind::kFetch && record.must_succeed != 0) {
    record.target.address &= ~std::uint64_t{7};
    record.target.gpa[0] &= ~std::uint64_t{7};
  }
  return record;
}

OutcomeKind kind_of(const Result& result) {
  switch (result.event) {
    case Event::kCompleted:
      return OutcomeKind::kOk;
    case Event::kUnmapped:
      return OutcomeKind::kMmio;
    case Event::kException:
      return result.vector == 14   ? OutcomeKind::kPageFault
             : result.vector == 13 ? OutcomeKind::kGp
             : result.vector == 12 ? OutcomeKind::kSs
                                   : OutcomeKind::kSkip;
    case Event::kEngineError:
      break;
  }
  return OutcomeKind::kSkip;
}

FreshOutcome half_that_faulted(const FreshOutcome& fresh, const Result& result) {
  FreshOutcome chosen = fresh;
  if (fresh.or_page_fault && kind_of(result) == OutcomeKind::kPageFault)
    chosen.kind = OutcomeKind::kPageFault;
  return chosen;
}

std::string_view not_comparable(const AccessQuery& query, const FreshOutcome& fresh,
                                const Result& result) {
  const bool rmw = query.kind == AccessKind::kRmw;
  const bool faults = fresh.kind == OutcomeKind::kPageFault;
  const bool second_page_faults = crosses(query) && faults && !in_first_page(query, fresh.cr2);
  // Unicorn stops where it first finds no memory: what would have faulted behind that it never
  // sees.
  if (result.event == Event::kUnmapped) {
    if (rmw && faults) return "a read-modify-write without memory behind its load";
    if (second_page_faults) return "an access in two pages, without memory behind the first";
    if (fresh.kind == OutcomeKind::kGp)
      return "an access across the canonical edge, without memory";
  }
  // Of RMW, Unicorn loads from both pages before it stores to the first. Which page faults first is
  // left open, and spec says only what the first one does (SDM 3A §"Priority Among Concurrent
  // Events").
  if (rmw && crosses(query) && kind_of(result) == OutcomeKind::kPageFault &&
      !in_first_page(query, result.address) && faults && !second_page_faults) {
    return "a read-modify-write that faults on both pages";
  }
  // Unicorn looks the second page up again when it has stored to the first. An access in two pages
  // may be two, so either is right (SDM 3A §"Guaranteed Atomic Operations").
  const bool store = rmw || query.kind == AccessKind::kWrite;
  const bool second_faulted = kind_of(result) == OutcomeKind::kPageFault && crosses(query) &&
                              !in_first_page(query, result.address);
  if (store && crosses(query) &&
      (fresh.kind == OutcomeKind::kMmio || (fresh.kind == OutcomeKind::kOk && second_faulted)) &&
      changes_second_path(query, fresh)) {
    return "a store in two pages, of which the first part changes the path of the second";
  }
  // Outside 64-bit mode it is CMPXCHG8B, whose comparand is what lay there before the walk set A
  // or D.
  if (rmw && query.size == 8 && !layout_of(query).long_mode() && meets_own_path(query, fresh))
    return "an 8-byte read-modify-write of its own path outside 64-bit mode";
  return {};
}

std::optional<Difference> compare(const AccessQuery& query, const FreshOutcome& fresh,
                                  const Result* results, bool data_follows) {
  const Result& result = results[0];
  const OutcomeKind got = kind_of(result);
  // Where data does not follow the translation, memory and no memory look the same.
  const bool same = got == fresh.kind ||
                    (!data_follows && got == OutcomeKind::kOk && fresh.kind == OutcomeKind::kMmio);
  if (!same)
    return Difference{"outcome", to_text(outcome_of(query, fresh)), text_of(query, result)};

  std::optional<Difference> difference;
  if (got == OutcomeKind::kPageFault) {
    difference = compare_fault(query, fresh, result);
  } else if (got == OutcomeKind::kMmio &&
             ((fresh.gpa[0] ^ result.address) &
              (crosses(query) ? ~kPageMask : ~std::uint64_t{0})) != 0) {
    // Of an access in two pages Unicorn loads two aligned words, stores byte by byte: only the page
    // is what the tables decide.
    difference = Difference{"value", to_text(outcome_of(query, fresh)), text_of(query, result)};
  } else if (got == OutcomeKind::kOk && data_follows) {
    difference = compare_data(query, fresh, result);
  }
  return difference ? difference : compare_path(query, fresh, results);
}

}  // namespace twinwalk::oracle::unicorn
