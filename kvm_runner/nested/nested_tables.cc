#include "kvm_runner/nested/nested_tables.h"

#include "harness/trace/guest_tables.h"
#include "kvm_runner/layout.h"

namespace twinwalk::kvm {

NestedWalk walk_nested(const WordReader& memory, const NestedRoot& root, std::uint64_t ngpa) {
  NestedWalk out;
  out.common = ~std::uint64_t{0};
  auto read = [&](std::uint64_t at, unsigned, std::uint64_t& entry) {
    if (!memory.read_word(at, entry)) return false;
    out.meets_runner |= !memory.is_trace_word(at);
    if ((entry & pte::kP) != 0) out.seen |= entry;
    out.common &= entry;
    return true;
  };
  if (root.levels == 4) {
    out.meets_runner = ngpa >> 48 != 0;
    out.gpa = walk_tables<kShape4Level>(read, root.address, ngpa, out.path);
  } else {
    out.gpa = walk_tables<kShape5Level>(read, root.address, ngpa, out.path);
  }
  out.complete = out.gpa != kUnknownGpa;
  out.large_1g = out.complete && out.path.count + 2 == root.levels;
  return out;
}

bool may_be_nested_table(std::uint64_t gpa, std::uint64_t nested_root) {
  return gpa - kNestedPool < kNestedPoolPages * kPage ||
         (gpa ^ (nested_root & pte::kAddressMask)) < kPage;
}

bool NestedMemory::read_word(std::uint64_t ngpa, std::uint64_t& word) const {
  const NestedWalk walk = walk_nested(memory_, root_, ngpa);
  seen_ |= walk.seen;
  large_1g_ |= walk.large_1g;
  return walk.complete && memory_.read_word(walk.gpa, word);
}

bool NestedMemory::is_trace_word(std::uint64_t ngpa) const {
  const NestedWalk walk = walk_nested(memory_, root_, ngpa);
  return !walk.meets_runner && (!walk.complete || memory_.is_trace_word(walk.gpa));
}

}  // namespace twinwalk::kvm
