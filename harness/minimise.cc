#include "harness/minimise.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "harness/shorter_traces.h"
#include "harness/simpler_ops.h"
#include "harness/trace/schema.h"

namespace twinwalk {
namespace {

constexpr std::size_t kMostToTrade = 24;

class Search {
 public:
  Search(const TraceTest& shows, const MinimiseOptions& options, Minimised& best)
      : shows_(shows), options_(options), best_(best) {}

  // Takes `candidate` for the best if it still shows what is searched for.
  bool accept(Trace candidate) {
    if (done()) return false;
    ++best_.runs;
    if (!shows_(candidate)) return false;
    best_.trace = std::move(candidate);
    return true;
  }
  bool done() const {
    return best_.runs >= options_.max_runs || (options_.stop && options_.stop());
  }

  bool drop_operations();
  bool trade_operations();
  bool simplify_operations();
  bool simplify_machine();

 private:
  bool simplify(std::size_t index, const FieldInfo& field);
  bool replace(std::size_t index, const Op& op);
  bool set_machine(const MachineField& field, std::uint64_t value);
  const std::vector<Op>& ops() const { return best_.trace.ops; }

  const TraceTest& shows_;
  const MinimiseOptions& options_;
  Minimised& best_;
  std::uint64_t trades_ = 0;  // tried
};

// Ranges of operations, from halves down to single ones, from the end: later operations need the
// earlier ones more often than the other way round.
bool Search::drop_operations() {
  bool any = false;
  for (std::size_t size = std::max<std::size_t>(ops().size() / 2, 1);; size /= 2) {
    for (std::size_t end = ops().size(); end > 0 && !done();) {
      const std::size_t first = end > size ? end - size : 0;
      any |= accept(without(best_.trace, first, end - first));
      end = std::min(first, ops().size());
    }
    if (size == 1 || done()) return any;
  }
}

// Several operations for fewer. There are many ways: only for what is short already.
bool Search::trade_operations() {
  if (ops().size() > kMostToTrade) return false;
  bool traded = false;
  const auto take = [&](Trace fewer) {
    if (trades_++ >= options_.max_trades || done()) return true;
    traded = accept(std::move(fewer));
    return traded;
  };
  const Trace now = best_.trace;
  static_cast<void>(drop_together(now, 2, take) || drop_together(now, 3, take) ||
                    drop_and_simplify(now, take) || exchange_neighbours(now, take));
  return traded;
}

bool Search::replace(std::size_t index, const Op& op) {
  if (op == ops()[index]) return false;
  Trace candidate = best_.trace;
  candidate.ops[index] = op;
  return accept(std::move(candidate));
}

bool Search::simplify(std::size_t index, const FieldInfo& field) {
  for (const Op& op : simpler_in(ops()[index], field))
    if (replace(index, op)) return true;
  bool any = false;
  for (unsigned n = 0; n < 64 && !done(); ++n) {
    const std::optional<Op> less = without_bit(ops()[index], field, n);
    if (less) any |= replace(index, *less);
  }
  return any;
}

bool Search::simplify_operations() {
  bool any = false;
  for (std::size_t i = 0; i < ops().size() && !done(); ++i) {
    if (ops()[i].vcpu != 0) {
      Op op = ops()[i];
      op.vcpu = 0;
      any |= replace(i, op);
    }
    for (const FieldInfo& field : schema_of(ops()[i].verb).fields) any |= simplify(i, field);
  }
  return any;
}

bool Search::set_machine(const MachineField& field, std::uint64_t value) {
  Trace candidate = best_.trace;
  field.set(candidate.machine, value);
  reconcile(candidate.machine);
  // One with operations of vCPUs that are not there is no trace.
  const bool legal = std::all_of(candidate.ops.begin(), candidate.ops.end(),
                                 [&](const Op& op) { return op.vcpu < candidate.machine.vcpus; });
  return legal && candidate.machine != best_.trace.machine && accept(std::move(candidate));
}

// As usual; else, of what is counted, as little as can be: a smaller quota is full sooner.
bool Search::simplify_machine() {
  const Machine usual;
  bool any = false;
  for (const MachineField& field : machine_fields()) {
    const std::uint64_t wanted = field.get(usual), value = field.get(best_.trace.machine);
    if (value == wanted) continue;
    if (set_machine(field, wanted)) {
      any = true;
      continue;
    }
    using Kind = MachineField::Kind;
    if (field.kind != Kind::kDecimal && field.kind != Kind::kQuota) continue;
    for (const std::uint64_t less : {std::uint64_t{1}, value / 2, value - 1}) {
      const std::uint64_t simpler = make_legal(field, less);
      if (simpler >= value || !set_machine(field, simpler)) continue;
      any = true;
      break;
    }
  }
  return any;
}

}  // namespace

Minimised minimise(const Trace& trace, const TraceTest& shows, const MinimiseOptions& options) {
  Minimised best;
  best.trace = trace;
  ++best.runs;
  best.reproduced = shows(trace);
  if (!best.reproduced) return best;
  best.trace.comments.clear();

  Search search(shows, options, best);
  Trace plain = best.trace;
  plain.expectations.clear();
  plain.known.clear();
  plain.requires_line.clear();
  search.accept(std::move(plain));
  for (bool again = true; again && !search.done();) {
    again = search.drop_operations();
    again |= search.simplify_machine();
    again |= search.simplify_operations();
    again = again || search.trade_operations();
  }
  return best;
}

Minimised minimise(Checker& checker, const Trace& trace, DivergenceClass wanted,
                   const MinimiseOptions& options) {
  const CheckResult first = checker.check(trace);
  if (wanted == DivergenceClass::kNone) wanted = first.divergence;
  if (wanted == DivergenceClass::kNone) {
    Minimised none;
    none.trace = trace;
    none.runs = 1;
    return none;
  }
  const auto shows = [&](const Trace& candidate) {
    return checker.check(candidate).divergence == wanted;
  };
  // What comes after the operation that diverged is seldom needed: one try saves many.
  if (first.divergence == wanted && first.op + 1 < trace.ops.size()) {
    Trace head = trace;
    head.ops.resize(first.op + 1);
    std::erase_if(head.expectations, [&](const Expectation& e) { return e.op > first.op; });
    Minimised best = minimise(head, shows, options);
    if (best.reproduced) return best;
  }
  return minimise(trace, shows, options);
}

namespace {

bool same(const Outcome& a, const Outcome& b) {
  const auto same_path = [](const Path& x, const Path& y) {
    return x.count == y.count && std::equal(x.entry, x.entry + x.count, y.entry);
  };
  return a.kind == b.kind && a.reason == b.reason && a.complaint == b.complaint &&
         a.write == b.write && a.error_code == b.error_code && a.cr2 == b.cr2 &&
         a.gpa[0] == b.gpa[0] && a.gpa[1] == b.gpa[1] && a.value == b.value &&
         a.extra_begin == b.extra_begin && a.extra_count == b.extra_count &&
         same_path(a.path[0], b.path[0]) && same_path(a.path[1], b.path[1]);
}

}  // namespace

bool replays(Checker& checker, const Trace& trace, unsigned times) {
  if (times == 0) return true;
  const CheckResult first = checker.check(trace);
  const OutcomeStream outcomes = checker.outcomes();
  for (unsigned n = 1; n < times; ++n) {
    const CheckResult again = checker.check(trace);
    const OutcomeStream& now = checker.outcomes();
    if (again.divergence != first.divergence || again.step != first.step ||
        again.diverge != first.diverge)
      return false;
    if (now.extra != outcomes.extra || now.steps.size() != outcomes.steps.size()) return false;
    if (!std::equal(now.steps.begin(), now.steps.end(), outcomes.steps.begin(), same)) return false;
  }
  return true;
}

}  // namespace twinwalk
