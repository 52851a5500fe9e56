#include "kvm_runner/torn_stores.h"

#include <algorithm>
#include <array>

#include "harness/trace/guest_tables.h"
#include "kvm_runner/replayed_registers.h"

namespace twinwalk::kvm {
namespace {

constexpr std::uint64_t kPageBytes = 4096;

bool is_torn(const Op& op, const Outcome& outcome) {
  const bool stores = op.access() == AccessKind::kWrite || op.access() == AccessKind::kRmw;
  const std::uint64_t second = (op.gva + op.size - 1) / kPageBytes;
  return stores && op.gva / kPageBytes != second && outcome.kind == OutcomeKind::kPageFault &&
         outcome.cr2 / kPageBytes == second;
}

}  // namespace

TornStores::TornStores(const Program& program, const OutcomeStream& outcomes, std::uint32_t last) {
  std::array<FollowedRegisters, kMaxVcpus> registers;
  for (FollowedRegisters& r : registers) r.reset(program.machine);
  for (std::uint32_t i = 0; i <= last; ++i) {
    const Op& op = program.steps[i].what;
    const Outcome& outcome = outcomes.steps[i];
    if (op.vcpu >= kMaxVcpus) continue;
    if (op.verb != Verb::kAccess) {
      if (outcome.kind == OutcomeKind::kDone) replay(op, program.machine, registers[op.vcpu]);
      continue;
    }
    const Registers now = registers_of(registers[op.vcpu]);
    for (unsigned half = 0; half < 2; ++half) {
      const Path& shown = outcome.path[half];
      if (shown.count == 0) continue;
      unsigned next = 0;
      auto read = [&](std::uint64_t at, unsigned, std::uint64_t& entry) {
        if (next == shown.count) return false;
        entry = shown.entry[next++];
        tables_.insert(at / kPageBytes);
        if (i == last) on_the_way_.insert(at & ~std::uint64_t{7});
        return true;
      };
      Path path;
      const std::uint64_t gva = half == 0 ? op.gva : op.gva + op.size - 1;
      const std::uint64_t gpa = walk_guest_tables(now, gva, read, path);
      if (half == 0 && gpa != kUnknownGpa && is_torn(op, outcome))
        words_.insert(gpa & ~std::uint64_t{7});
    }
  }
}

bool TornStores::met_table_word(std::uint64_t gpa) const {
  return words_.count(gpa & ~std::uint64_t{7}) != 0 && tables_.count(gpa / kPageBytes) != 0;
}

bool TornStores::met_on_the_way() const {
  return std::any_of(on_the_way_.begin(), on_the_way_.end(),
                     [this](std::uint64_t gpa) { return met_table_word(gpa); });
}

}  // namespace twinwalk::kvm
