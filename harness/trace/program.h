#ifndef TWINWALK_HARNESS_TRACE_PROGRAM_H_
#define TWINWALK_HARNESS_TRACE_PROGRAM_H_

// A trace lowered to primitive steps, which is what subjects and references
// execute. Lowering is syntactic: it never looks at memory, so that all who
// execute a program see the same steps.

#include <cstdint>
#include <vector>

#include "harness/trace/op.h"

namespace twinwalk {

// A step's verb is never kCpu or kMap: kCpu becomes one kMov a given register (order efer, cr4, cr3, cr0,
// pkru, cpl, ac), kMap becomes kWrite steps from the root down. A kAccess write/rmw and a kWrite without
// `value=` carry store_stamp(step index). kAccess has cpl resolved only if it was given (see kCplGiven).
struct Step {
  std::uint32_t op;  // index into Trace::ops
  Op what;
};

struct Program {
  Machine machine;
  std::vector<Step> steps;
};

// How `map` chooses table pages: for each (root gpa, level, gva prefix) the first `map` that needs it takes the
// next page of the pool (kTablePool + n * 4K, skipping every root seen so far), n modulo kTablePoolPages. The
// root is the last CR3 that a `cpu cr3=` or `mov cr3=` of that vCPU named, kInitialCr3 before. An upper entry
// is written when this trace has not yet written exactly that value there by `map`; the leaf is always written.
// Upper bits default to p|w|u, leaf bits to p|w|u; `ps` is added for 2M and 1G.
class Lowering {
 public:
  // Replaces `out`. Reuses its memory: no allocation once warm.
  void lower(const Trace& trace, Program& out);

 private:
  struct Table {
    std::uint64_t root, prefix, gpa;
    std::uint8_t level;
  };
  struct Upper {
    std::uint64_t gpa, value;
  };
  std::vector<Table> tables_;
  std::vector<Upper> uppers_;
  std::vector<std::uint64_t> roots_;
  std::uint64_t next_ = 0;
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_TRACE_PROGRAM_H_
