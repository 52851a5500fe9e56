#ifndef TWINWALK_ORACLE_UNICORN_COMPARE_H_
#define TWINWALK_ORACLE_UNICORN_COMPARE_H_

// Does what Unicorn did equal what spec's fresh walk says, as far as the manual
// prescribes it? What the manual leaves open is not compared; the list is in README.md.

#include <optional>
#include <string>
#include <string_view>

#include "oracle/spec.h"
#include "oracle/unicorn/protocol.h"
#include "oracle/unicorn/table_layout.h"

namespace twinwalk::oracle::unicorn {

struct Difference {
  std::string_view field;  // "outcome", "error-code", "cr2", "value", "accessed-dirty", "image"
  std::string spec, unicorn;
};

// Queries have the linear address that the processor makes of the trace's in its mode
// (TableLayout::linear). Can Unicorn execute this access at all on a machine with
// `memory_bytes` of memory? Empty if so, else why not.
std::string_view not_expressible(const AccessQuery& query, const FreshOutcome& fresh,
                                 std::uint64_t memory_bytes);

// The paging mode's tables, as the query's registers select them.
const TableLayout& layout_of(const AccessQuery& query);

// Does the access touch two pages? Then it has two results, one behind the other.
bool crosses(const AccessQuery& query);

// Does it store to an entry of its own path?
bool meets_own_path(const AccessQuery& query, const FreshOutcome& fresh);

// The journal's record of the access, and of the registers that it needs. Precondition:
// expressible.
RegisterRecord registers_of(const Registers& registers);
Record record_of(const AccessQuery& query, const FreshOutcome& fresh);
// PAE: takes over the PDPTEs by which spec walked. False: they are in `pdptes` already.
bool take_pdptes(const AccessQuery& query, const FreshOutcome& fresh, PdpteRecord& pdptes);

// The kind of outcome that a result amounts to; kSkip for what is none (an error inside Unicorn).
OutcomeKind kind_of(const Result& result);

// What spec says, with the page fault of the canonical half chosen where it may come before the #GP
// and Unicorn had one: which half of an access across the canonical edge comes first is open.
// SDM 3A §"Priority Among Concurrent Events".
FreshOutcome half_that_faulted(const FreshOutcome& fresh, const Result& result);

// Is the result one that spec's outcome says nothing about? Empty if they can be compared, else why
// not.
std::string_view not_comparable(const AccessQuery& query, const FreshOutcome& fresh,
                                const Result& result);

// The first difference, if there is one. `result` points at the access's one or two results.
// `data_follows`: Unicorn takes data to the address that the mode gives. Precondition:
// result->skipped == Skipped::kNo.
std::optional<Difference> compare(const AccessQuery& query, const FreshOutcome& fresh,
                                  const Result* result, bool data_follows);

}  // namespace twinwalk::oracle::unicorn

#endif  // TWINWALK_ORACLE_UNICORN_COMPARE_H_
