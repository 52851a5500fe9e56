#ifndef TWINWALK_ORACLE_UNICORN_LEDGER_H_
#define TWINWALK_ORACLE_UNICORN_LEDGER_H_

// The ledger of known deviations (corpus/known/ledger.json): which disagreements of a
// reference are understood, by what rule, and who is right. Data, not code: an entry is
// a list of conditions on named facts of one access, all of which must hold.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "harness/trace/machine.h"
#include "oracle/spec.h"
#include "oracle/unicorn/compare.h"
#include "oracle/unicorn/protocol.h"
#include "oracle/unicorn/version.h"

namespace twinwalk::oracle::unicorn {

// A named property of an access that two references disagree about: a word or a number.
struct Fact {
  std::string_view name;
  std::string text;          // words only
  std::uint64_t number = 0;  // numbers only
  bool is_text = false;
};

// All facts that a condition may name.
// Words: `field`, what differs (outcome, error-code, cr2, value, accessed-dirty, image); `mode`,
// `access` and `vendor`, named as in traces; `spec.outcome` and `unicorn.outcome`.
// Numbers: `cpl`; `maxphyaddr`; `features`, bits as in feature::kNames; `spec.error-code` and
// `unicorn.error-code`; `unicorn.reserved-there`, 1 if Unicorn too finds a reserved bit in the page
// where spec faults (of an access in two, it may go on and fault in the other); `lost-bits` and
// `added-bits`, error-code bits that only spec has and that only Unicorn has; `last-entry` and
// `last-level`, of the last entry that spec's walk reads for the page that decides;
// `disputed-address-bits`, of all entries read the address bits that the machine's MAXPHYADDR and
// the engine's (40) treat differently; `own-path`, 1 if the access stores to an entry of its own
// path; `lost-value-bits` and `added-value-bits`, of the value loaded.
std::vector<Fact> facts_of(const Machine& machine, const AccessQuery& query,
                           const FreshOutcome& fresh, const Result& result,
                           const Difference& difference);

struct Condition {
  enum class Test : std::uint8_t {
    kIs,
    kIsNot,
    kAllOf,
    kAnyOf,
    kNoneOf
  };  // the last three test bits of a number
  std::string fact;
  Test test = Test::kIs;
  std::string text;
  std::uint64_t number = 0;
  bool is_text = false;
  bool holds(const std::vector<Fact>& facts) const;
};

struct LedgerEntry {
  std::string id;
  std::string subject;         // "unicorn"
  UnicornVersion first, last;  // versions that deviate, both included
  std::vector<Condition> when;
  bool is_about(const UnicornVersion& version) const;
  std::string rule, right, citation;  // the rule, who is right by it, and where it stands
  std::string trace, neighbour;       // in corpus/known: deviates; the nearest one that must agree
};

class Ledger {
 public:
  // From the text of a ledger file. Throws std::runtime_error with one line on anything that is not
  // understood: an unknown key, fact or test is an error, so that no entry is silently wider than
  // it reads.
  static Ledger parse(std::string_view json);
  // The ledger of this build: corpus/known/ledger.json as it was when the program was built.
  static const Ledger& built_in();

  // Id of the first entry that covers the disagreement, empty if none does.
  std::string_view covering(const UnicornVersion& version, const std::vector<Fact>& facts) const;
  // False: `id` is an entry about Unicorn that says nothing of this version.
  bool concerns(std::string_view id, const UnicornVersion& version) const;
  const std::vector<LedgerEntry>& entries() const { return entries_; }

 private:
  std::vector<LedgerEntry> entries_;
};

}  // namespace twinwalk::oracle::unicorn

#endif  // TWINWALK_ORACLE_UNICORN_LEDGER_H_
