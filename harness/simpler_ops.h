#ifndef TWINWALK_HARNESS_SIMPLER_OPS_H_
#define TWINWALK_HARNESS_SIMPLER_OPS_H_

// An operation made simpler in one field: what the minimiser tries.

#include <optional>
#include <vector>

#include "harness/trace/op.h"
#include "harness/trace/schema.h"

namespace twinwalk {

// That field is not said, or has one of a few smaller values; the simplest first.
std::vector<Op> simpler_in(const Op& op, const FieldInfo& field);
// Bit `n` of that field is clear. None: it was, or means nothing by itself.
std::optional<Op> without_bit(const Op& op, const FieldInfo& field, unsigned n);
// All of these for all fields; and vCPU 0.
std::vector<Op> simpler(const Op& op);

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_SIMPLER_OPS_H_
