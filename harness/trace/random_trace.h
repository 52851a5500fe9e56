#ifndef TWINWALK_HARNESS_TRACE_RANDOM_TRACE_H_
#define TWINWALK_HARNESS_TRACE_RANDOM_TRACE_H_

// Random legal traces for property tests.

#include <cstdint>
#include <random>

#include "harness/trace/pools.h"
#include "harness/trace/schema.h"

namespace twinwalk::testing {

using Random = std::mt19937_64;

inline std::uint64_t random_value(const FieldInfo& field, Random& random) {
  switch (random() % 4) {
    case 0:
      return make_legal(field, random());
    case 1:
      return make_legal(field, random() % 16);
    case 2:
      return make_legal(field, pool::page(pool::kGpa, random() & 0xff) | (random() & 0xfff));
    default:
      return make_legal(field,
                        pool::page(pool::kGva, random() & 0xff) + (random() % 2 ? 0xffc : 0));
  }
}

inline Machine random_machine(Random& random) {
  Machine machine;
  for (const MachineField& f : machine_fields()) {
    if (random() % 3 == 0) f.set(machine, make_legal(f, random()));
  }
  reconcile(machine);
  return machine;
}

inline Op random_op(Random& random, const Machine& machine) {
  Op op = make_op(static_cast<Verb>(random() % static_cast<unsigned>(Verb::kCount)));
  op.vcpu = static_cast<std::uint8_t>(random() % machine.vcpus);
  if (random() % 8 == 0)
    op.point = static_cast<Point>(random() % static_cast<unsigned>(Point::kCount));
  for (const FieldInfo& f : schema_of(op.verb).fields) {
    if (f.presence != Presence::kRequired && random() % 2) continue;
    set(op, f.id, random_value(resolve(f, op), random));
  }
  return op;
}

inline Trace random_trace(Random& random, std::size_t most_ops) {
  Trace trace;
  trace.machine = random_machine(random);
  for (std::size_t n = random() % (most_ops + 1); n; --n) {
    trace.ops.push_back(random_op(random, trace.machine));
    if (trace.ops.size() == 1) trace.ops[0].point = Point::kNone;
  }
  return trace;
}

}  // namespace twinwalk::testing

#endif  // TWINWALK_HARNESS_TRACE_RANDOM_TRACE_H_
