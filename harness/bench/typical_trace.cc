#include "harness/bench/typical_trace.h"

#include <cstdint>
#include <initializer_list>
#include <utility>

#include "harness/bench/workload.h"
#include "harness/trace/schema.h"

namespace twinwalk::bench {
namespace {

constexpr std::uint64_t kGva = 0x40'0000'0000;

Op op_of(Verb verb, std::initializer_list<std::pair<Field, std::uint64_t>> fields) {
  Op op = make_op(verb);
  for (const auto& [field, value] : fields) set(op, field, value);
  return op;
}

}  // namespace

Trace typical_trace(unsigned seed) {
  Trace trace;
  const auto number = [](auto word) { return static_cast<std::uint64_t>(word); };
  for (unsigned i = 0; i < 64; ++i) {
    const std::uint64_t gva = kGva + (i * 7 + seed) % 8 * 0x1000;
    const std::uint64_t gpa = kDataGpa + (i * 5 + seed) % 16 * 0x1000;
    if (i < 8) {
      trace.ops.push_back(
          op_of(Verb::kMap, {{Field::kGva, kGva + i * 0x1000}, {Field::kGpa, gpa}}));
    } else if (i % 16 == 9) {
      trace.ops.push_back(op_of(Verb::kInvlpg, {{Field::kGva, gva}}));
    } else if (i % 16 == 12) {
      trace.ops.push_back(op_of(Verb::kMap, {{Field::kGva, gva}, {Field::kGpa, gpa}}));
      trace.ops.push_back(op_of(Verb::kInvlpg, {{Field::kGva, gva}}));
      ++i;
    } else if (i % 32 == 15) {
      trace.ops.push_back(
          op_of(Verb::kMov, {{Field::kKind, number(Reg::kCr3)}, {Field::kValue, kInitialCr3}}));
    } else {
      const AccessKind kind = i % 3 == 0 ? AccessKind::kWrite : AccessKind::kRead;
      trace.ops.push_back(op_of(Verb::kAccess, {{Field::kKind, number(kind)},
                                                {Field::kGva, gva + i * 8},
                                                {Field::kCpl, i % 4 == 0 ? 3u : 0u}}));
    }
  }
  trace.ops.resize(64);
  return trace;
}

}  // namespace twinwalk::bench
