#ifndef TWINWALK_ORACLE_ACCESS_H_
#define TWINWALK_ORACLE_ACCESS_H_

// A whole access by the fresh walk: one part or, where it crosses a page, two.

#include <cstdint>

#include "harness/trace/op.h"
#include "harness/trace/outcome.h"
#include "oracle/machine_state.h"
#include "oracle/spec.h"
#include "oracle/walk.h"

namespace twinwalk::oracle {

struct AccessPart {
  std::uint64_t gva = 0;
  Walk walk;
  bool faults = false;
  std::uint32_t error_code = 0;  // faults
};

struct FreshAccess {
  OutcomeKind kind = OutcomeKind::kOk;  // kOk, kPageFault, kGp, kMmio
  std::uint8_t parts = 0;               // walked; 0 with kGp
  std::uint8_t which = 0;               // the part that faults, or is MMIO
  bool table_without_memory = false;    // a walk ended at a table that has no memslot
  bool table_read_only = false;         // A or D is due in a table in a read-only memslot
  bool anything_owed = false;           // the access completes, and some entry still lacks A or D
  std::uint64_t value = 0;              // kOk: what a load, fetch or RMW sees
  std::uint64_t doubtful = 0;           // A and D among it that are due in a read-only memslot
  AccessPart part[2];
};

struct AccessContext {
  unsigned vcpu = 0;
  const AccessQuery* query = nullptr;
  const EntryRules* rules = nullptr;
  Needs needs;
  WalkRoot root;

  // Worked out where something is wrong; most accesses need no more than `needs`.
  Controls controls() const { return controls_of(query->registers, query->implicit); }
};

// The query of an access step; `registers` are the vCPU's.
AccessQuery query_of(const Step& step, const Registers& registers);
// `query` must outlive the context.
inline AccessContext make_context(const MachineState& state, unsigned vcpu,
                                  const AccessQuery& query) {
  const Controls controls = controls_of(query.registers, query.implicit);
  return {vcpu, &query, &state.rules(query.registers), needs_of(controls, query.kind),
          state.walk_root(vcpu, query.registers)};
}

// Bytes touched: a fetch reads the aligned 8-byte word, whatever `size` says.
inline std::uint64_t first_byte(const AccessQuery& q) {
  return q.kind == AccessKind::kFetch ? q.gva & ~std::uint64_t{7} : q.gva;
}
inline unsigned byte_count(const AccessQuery& q) {
  return q.kind == AccessKind::kFetch ? 8 : q.size;
}

void fresh_access(const MachineState& state, const AccessContext& context, FreshAccess& out);

// The access goes on at 0 beyond 4 GiB. SDM 3A §"Limit Checking": implementation-specific.
inline bool wraps(const FreshAccess& f) { return f.parts == 2 && f.part[1].gva < f.part[0].gva; }

// For an access to which fresh_access gave #GP: if one of its two pages is canonical, walks that
// one
// (`which`; the other part has no entries) and returns true. `kind` stays #GP.
bool walk_canonical_half(const MachineState& state, const AccessContext& context, FreshAccess& out);

// A and D that a completed access owes to step `step` of the part's walk.
inline std::uint64_t owed_bits(const Walk& walk, unsigned step, bool store) {
  if (step < walk.plain) return 0;
  const std::uint64_t bits = store && step + 1u == walk.count ? pte::kA | pte::kD : pte::kA;
  return bits & ~walk.entry[step];
}

// A load of `bytes` bytes from gpa[0] on, and where that page ends from gpa[1] on.
struct Loaded {
  std::uint64_t gpa[2] = {};
  unsigned bytes = 0;
  std::uint64_t byte(unsigned n) const {
    const std::uint64_t rest = kPageBytes - (gpa[0] & (kPageBytes - 1));
    return n < rest ? gpa[0] + n : gpa[1] + (n - rest);
  }
};
// `value`, which memory held before the access, as a load sees it after its walk has set `bits` (A,
// D) in the entry at `entry_gpa`.
std::uint64_t with_set_bits(const MachineState& state, const Loaded& load, std::uint64_t entry_gpa,
                            unsigned entry_bytes, std::uint64_t bits, std::uint64_t value);

// The rule that decides a part's fresh result, for verdicts and explanations.
const Rule& deciding_rule(const AccessContext& context, const AccessPart& part);

Outcome to_outcome(const AccessContext& context, const FreshAccess& fresh);
// Of an access across the canonical edge: after walk_canonical_half, with what the half may do.
FreshOutcome to_fresh_outcome(const AccessContext& context, const FreshAccess& fresh);

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_ACCESS_H_
