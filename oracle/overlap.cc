#include "oracle/overlap.h"

#include "oracle/access.h"
#include "oracle/ways.h"

namespace twinwalk::oracle {

namespace {

// A path as it is shown goes on behind a reserved bit, a walk does not.
bool same_length(const Path& path, const Walk& walk) {
  return path.count == walk.count || (path.count > walk.count && walk.stop == Stop::kReserved);
}

bool fits(const MachineState& state, const Path& path, const Walk& walk) {
  if (!same_length(path, walk)) return false;
  for (unsigned s = 0; s < walk.count; ++s) {
    const std::uint64_t entry = walk.entry[s];
    // A walk by speculation may have set A (rule stale-10).
    const bool speculates =
        state.profile() == Profile::kArchitecture && (entry & pte::kP) && s >= walk.plain;
    const std::uint64_t open =
        state.open_bits(walk.entry_gpa[s]) | (speculates ? pte::kA & ~entry : 0);
    if ((path.entry[s] ^ entry) & ~open) return false;
  }
  return true;
}

// f(context, the access as it would be now), if `step` is one.
template <class F>
void as_it_is_now(MachineState& state, const Step& step, F f) {
  const Op& op = step.what;
  if (op.verb != Verb::kAccess || op.vcpu >= state.machine().vcpus) return;
  state.look_as(op.vcpu);
  const AccessQuery query = query_of(step, state.vcpu(op.vcpu).registers);
  const AccessContext context = make_context(state, op.vcpu, query);
  FreshAccess access;
  fresh_access(state, context, access);
  f(context, access);
}

// f(walk, number of the entry, whether D is due) for each present entry on the access's path.
template <class F>
void for_each_owed(const AccessContext& context, const FreshAccess& access, F f) {
  for (unsigned p = 0; p < access.parts; ++p) {
    const AccessPart& part = access.part[p];
    const bool store = stores(context.query->kind) && !part.faults;
    for (unsigned s = 0; s < part.walk.count; ++s) {
      if ((part.walk.entry[s] & pte::kP) == 0) break;
      f(part.walk, s, store);
    }
  }
}

}  // namespace

// SDM 3A §"Accessed and Dirty Flags": A whenever an entry is used, D not in the leaf of a page that
// faults.
void leave_open_under_way(MachineState& state, const Step& step) {
  as_it_is_now(state, step, [&](const AccessContext& context, const FreshAccess& access) {
    for_each_owed(context, access, [&](const Walk& walk, unsigned s, bool store) {
      state.may_have_set(walk.entry_gpa[s], owed_bits(walk, s, store));
    });
    if (state.profile() == Profile::kKvm) return;
    // A beginning may have gone by what was cached, too.
    const Outcome nothing_seen;
    const Observation unseen{context, access, nothing_seen};
    Ways ways(state, unseen);
    ways.of_earlier_beginnings();
    ways.for_each([&](std::uint64_t gpa, std::uint64_t may, std::uint64_t) {
      if (state.is_writable(gpa)) state.may_have_set(gpa, may);
    });
  });
}

void take_back_under_way(MachineState& state, const Step& step) {
  if (!state.anything_open()) return;
  as_it_is_now(state, step, [&](const AccessContext& context, const FreshAccess& access) {
    for_each_owed(context, access, [&](const Walk& walk, unsigned s, bool) {
      const std::uint64_t at = walk.entry_gpa[s];
      const std::uint64_t set = walk.entry[s] & state.open_bits(at) & (pte::kA | pte::kD);
      if (set != 0 && s >= walk.plain) state.flip_bits(at, set, Hand::kOpen);
    });
  });
}

bool adopt_later_path(MachineState& state, const Step& step, const Outcome& got) {
  state.look_as(step.what.vcpu);
  const AccessQuery query = query_of(step, state.vcpu(step.what.vcpu).registers);
  const AccessContext context = make_context(state, step.what.vcpu, query);
  const unsigned bytes = context.rules->mode->entry_bytes;
  FreshAccess access;
  fresh_access(state, context, access);
  Walk now[2];
  for (unsigned i = 0; i < access.parts; ++i) {
    // What is shown is a walk of memory, PDPTEs included.
    walk(state.memory(), *context.rules, {query.registers.cr3, nullptr}, access.part[i].gva,
         now[i]);
    if (got.path[i].count != 0 && !fits(state, got.path[i], now[i])) return false;
  }
  for (unsigned i = 0; i < access.parts; ++i) {
    for (unsigned s = 0; s < now[i].count && s < got.path[i].count; ++s) {
      state.show_entry(now[i].entry_gpa[s], bytes, got.path[i].entry[s]);
      state.settle_open(now[i].entry_gpa[s], bytes);
    }
  }
  return true;
}

}  // namespace twinwalk::oracle
