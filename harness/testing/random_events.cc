// What happens to whole vCPUs, for random traces; and memslots of SMM's address space.

#include "harness/testing/random_trace.h"
#include "harness/trace/schema.h"

namespace twinwalk {

Op RandomTrace::event_op() {
  switch (below(12)) {
    case 0:
    case 1:
    case 2:
    case 3: {
      Op op = make_op(Verb::kSmm);
      set(op, Field::kValue, below(2));
      return op;
    }
    case 4:
    case 5: {
      Op op = slot_op();
      set(op, Field::kSpace, 1);
      return op;
    }
    case 6: {
      Op op = make_op(Verb::kInit);
      set(op, Field::kType, below(2));
      return op;
    }
    case 7:
      return make_op(Verb::kNewVcpu);
    case 8:
    case 9:
      return cpuid_op();
    case 10: {
      Op op = make_op(Verb::kGet);
      set(op, Field::kKind, below(kRegs));
      return op;
    }
    default: {
      Op op = make_op(Verb::kInvlpga);
      set(op, Field::kGva, gva());
      set(op, Field::kValue, below(2));
      return op;
    }
  }
}

// One feature more or less than the machine has; or another width.
Op RandomTrace::cpuid_op() {
  Op op = make_op(Verb::kCpuid);
  if (one_in(2)) {
    set(op, Field::kValue, one_in(3) ? 52 : 36 + below(8));
  } else {
    set(op, Field::kFlags,
        machine_.features ^ static_cast<std::uint32_t>(bit(static_cast<unsigned>(below(13)))));
  }
  return op;
}

}  // namespace twinwalk
