#include "oracle/unicorn/ledger.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <tuple>

#include "harness/trace/json_field.h"
#include "harness/trace/x86.h"
#include "oracle/unicorn/ledger_text.h"

namespace twinwalk::oracle::unicorn {
namespace {

using json_field::Json;

constexpr std::uint64_t kPageBytes = 4096;
constexpr unsigned kEnginePhysicalBits = 40;  // fixed in Unicorn

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error("ledger: " + what); }

std::string word(const Json& object, const char* key) {
  try {
    return json_field::text(object, key);
  } catch (const std::runtime_error& e) {
    fail(e.what());
  }
}

void only_keys(const Json& object, std::initializer_list<std::string_view> allowed) {
  if (!object.is_object()) fail("an object was expected");
  for (const auto& [key, value] : object.items()) {
    if (std::find(allowed.begin(), allowed.end(), key) == allowed.end())
      fail("unknown key \"" + key + "\"");
  }
}

std::uint64_t number_of(const Json& value, const std::string& fact) {
  if (value.is_number_unsigned()) return value.get<std::uint64_t>();
  if (value.is_string()) {
    const std::string text = value.get<std::string>();
    std::size_t used = 0;
    if (text.rfind("0x", 0) == 0) {
      try {
        const std::uint64_t number = std::stoull(text, &used, 16);
        if (used == text.size()) return number;
      } catch (const std::exception&) {
      }
    }
  }
  fail("\"" + fact + "\" is compared with what is no number");
}

UnicornVersion version_of(const std::string& text) {
  UnicornVersion version;
  char rest = 0;
  if (std::sscanf(text.c_str(), "%d.%d.%d%c", &version.major, &version.minor, &version.patch,
                  &rest) != 3) {
    fail("\"" + text + "\" is no version");
  }
  return version;
}

auto ordered(const UnicornVersion& v) { return std::tie(v.major, v.minor, v.patch); }

// The facts in order, with their kinds: from an access on which nothing happened.
const std::vector<Fact>& known_facts() {
  static const std::vector<Fact> kFacts = facts_of({}, {}, {}, {}, {});
  return kFacts;
}

Condition condition_of(const Json& json) {
  static constexpr std::pair<std::string_view, Condition::Test> kTests[] = {
      {"is", Condition::Test::kIs},
      {"is-not", Condition::Test::kIsNot},
      {"all-of", Condition::Test::kAllOf},
      {"any-of", Condition::Test::kAnyOf},
      {"none-of", Condition::Test::kNoneOf}};
  only_keys(json, {"fact", "is", "is-not", "all-of", "any-of", "none-of"});
  Condition condition;
  condition.fact = word(json, "fact");
  if (json.size() != 2) fail("a condition on \"" + condition.fact + "\" needs exactly one test");
  const auto known = std::find_if(known_facts().begin(), known_facts().end(),
                                  [&](const Fact& fact) { return fact.name == condition.fact; });
  if (known == known_facts().end()) fail("unknown fact \"" + condition.fact + "\"");
  condition.is_text = known->is_text;
  for (const auto& [name, test] : kTests) {
    const auto found = json.find(name);
    if (found == json.end()) continue;
    condition.test = test;
    if (!condition.is_text) {
      condition.number = number_of(*found, condition.fact);
    } else if (found->is_string() &&
               (test == Condition::Test::kIs || test == Condition::Test::kIsNot)) {
      condition.text = found->get<std::string>();
    } else {
      fail("\"" + condition.fact + "\" is a word: only is and is-not apply");
    }
  }
  return condition;
}

LedgerEntry entry_of(const Json& json) {
  only_keys(json, {"id", "subject", "first", "last", "when", "rule", "right", "citation", "trace",
                   "neighbour"});
  LedgerEntry entry;
  entry.id = word(json, "id");
  entry.subject = word(json, "subject");
  entry.first = version_of(word(json, "first"));
  entry.last = version_of(word(json, "last"));
  entry.rule = word(json, "rule");
  entry.right = word(json, "right");
  entry.citation = word(json, "citation");
  entry.trace = word(json, "trace");
  entry.neighbour = word(json, "neighbour");
  const auto when = json.find("when");
  if (when == json.end() || !when->is_array() || when->empty())
    fail(entry.id + ": \"when\" must be a list of conditions");
  for (const Json& condition : *when) entry.when.push_back(condition_of(condition));
  return entry;
}

// An entry with its address where a walk takes it to be: of a 4M page's, bits 39:32 are elsewhere.
std::uint64_t address_bits(const TableLayout& layout, const AccessQuery& query, const Path& path,
                           unsigned i) {
  const unsigned level = layout.levels - i;
  const bool pse36 = layout.mode == Mode::k32Bit && level == 2 &&
                     layout.is_leaf(path.entry[i], level, query.registers.cr4);
  return pse36 ? layout.frame(path.entry[i], level) : path.entry[i];
}

}  // namespace

std::vector<Fact> facts_of(const Machine& machine, const AccessQuery& query,
                           const FreshOutcome& fresh, const Result& result,
                           const Difference& difference) {
  const TableLayout& layout = layout_of(query);
  std::uint64_t all = 0;
  for (const Path& path : fresh.path) {
    for (unsigned i = 0; i < path.count; ++i) all |= address_bits(layout, query, path, i);
  }
  // The page that faults, or the first one.
  const bool second = fresh.kind == OutcomeKind::kPageFault && crosses(query) &&
                      (fresh.cr2 ^ query.gva) >= kPageBytes;
  const Path& path = fresh.path[second ? 1 : 0];
  const std::uint64_t last = path.count > 0 ? path.entry[path.count - 1] : 0;
  const unsigned level = path.count > 0 ? layout.levels + 1u - path.count : 0;
  const bool reserved_there = kind_of(result) == OutcomeKind::kPageFault &&
                              (result.error_code & pfec::kRsvd) != 0 &&
                              (fresh.cr2 ^ result.address) < kPageBytes;
  const unsigned guest_bits = machine.maxphyaddr;
  const std::uint64_t guest_address = bit(guest_bits) - 1,
                      engine_address = bit(kEnginePhysicalBits) - 1;
  const std::uint64_t disputed = all & (guest_address ^ engine_address);
  const auto text = [](std::string_view name, std::string_view value) {
    return Fact{name, std::string(value), 0, true};
  };
  const auto number = [](std::string_view name, std::uint64_t value) {
    return Fact{name, {}, value, false};
  };
  const Registers& r = query.registers;
  return {text("field", difference.field),
          text("mode", name_of(mode_of(r.cr0, r.cr4, r.efer))),
          text("access", name_of(query.kind)),
          number("cpl", r.cpl),
          number("maxphyaddr", guest_bits),
          text("vendor", name_of(machine.vendor)),
          number("features", machine.features),
          text("spec.outcome", name_of(fresh.kind)),
          text("unicorn.outcome", name_of(kind_of(result))),
          number("spec.error-code", fresh.error_code),
          number("unicorn.error-code", result.error_code),
          number("unicorn.reserved-there", reserved_there ? 1 : 0),
          number("lost-bits", fresh.error_code & ~result.error_code),
          number("added-bits", result.error_code & ~fresh.error_code),
          number("last-entry", last),
          number("last-level", level),
          number("disputed-address-bits", disputed),
          number("own-path", meets_own_path(query, fresh) ? 1 : 0),
          number("lost-value-bits", fresh.value & ~result.value),
          number("added-value-bits", result.value & ~fresh.value)};
}

bool Condition::holds(const std::vector<Fact>& facts) const {
  const auto found = std::find_if(facts.begin(), facts.end(),
                                  [&](const Fact& candidate) { return candidate.name == fact; });
  if (found == facts.end()) return false;
  switch (test) {
    case Test::kIs:
      return is_text ? found->text == text : found->number == number;
    case Test::kIsNot:
      return is_text ? found->text != text : found->number != number;
    case Test::kAllOf:
      return (found->number & number) == number;
    case Test::kAnyOf:
      return (found->number & number) != 0;
    case Test::kNoneOf:
      return (found->number & number) == 0;
  }
  return false;
}

Ledger Ledger::parse(std::string_view text) {
  const Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) fail("not JSON");
  only_keys(json, {"version", "entries"});
  const auto version = json.find("version");
  if (version == json.end() || *version != 1) fail("version 1 was expected");
  const auto entries = json.find("entries");
  if (entries == json.end() || !entries->is_array()) fail("\"entries\" must be a list");
  Ledger ledger;
  for (const Json& entry : *entries) ledger.entries_.push_back(entry_of(entry));
  return ledger;
}

const Ledger& Ledger::built_in() {
  static const Ledger kLedger = parse(kLedgerText);
  return kLedger;
}

bool LedgerEntry::is_about(const UnicornVersion& version) const {
  return subject == "unicorn" && ordered(first) <= ordered(version) &&
         ordered(version) <= ordered(last);
}

bool Ledger::concerns(std::string_view id, const UnicornVersion& version) const {
  return std::none_of(entries_.begin(), entries_.end(), [&](const LedgerEntry& entry) {
    return entry.id == id && !entry.is_about(version);
  });
}

std::string_view Ledger::covering(const UnicornVersion& version,
                                  const std::vector<Fact>& facts) const {
  for (const LedgerEntry& entry : entries_) {
    if (!entry.is_about(version)) continue;
    const auto holds = [&](const Condition& condition) { return condition.holds(facts); };
    if (std::all_of(entry.when.begin(), entry.when.end(), holds)) return entry.id;
  }
  return {};
}

}  // namespace twinwalk::oracle::unicorn
