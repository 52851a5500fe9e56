#include "kvm_runner/place.h"

#include <algorithm>
#include <array>
#include <vector>

namespace twinwalk::kvm {
namespace {

constexpr std::uint64_t kRegion = std::uint64_t{4} << 20;  // of a PDE of 32-bit paging
constexpr unsigned kRegions = 1024, kRegionsPerGigabyte = 256;
// Where to look first in a gigabyte: away from its ends, where traces are, and from what KVM and
// firmware have below 4 GiB.
constexpr unsigned kFirstTried = 0x54;
constexpr unsigned kLaterCost = 1 << 20;  // more than all steps of a program

struct Uses {
  std::array<unsigned, kRegions> linear{};  // by steps
  std::array<unsigned, 4> gigabyte{};       // the same
  std::array<bool, kRegions> memory{};      // a memslot from the start, a store
  // A memslot that is added later, or moved: it is skipped rather than that nothing has a place.
  std::array<bool, kRegions> later{};

  void address(std::uint64_t gva) {
    const std::uint64_t low = gva & 0xffff'ffff;
    ++linear[low / kRegion];
    ++gigabyte[low >> 30];
  }
  static void mark(std::array<bool, kRegions>& what, std::uint64_t gpa, std::uint64_t bytes) {
    for (std::uint64_t r = gpa / kRegion; r < kRegions && r * kRegion < gpa + bytes; ++r)
      what[r] = true;
  }
};

// The arrays that CR3 may name outside IA-32e mode.
std::vector<std::uint64_t> roots_of(const Program& program) {
  std::vector<std::uint64_t> roots = {kInitialCr3, 0};
  const auto add = [&](std::uint64_t cr3) {
    const std::uint64_t root = cr3 & 0xffff'ffe0;
    if (std::find(roots.begin(), roots.end(), root) == roots.end()) roots.push_back(root);
  };
  for (const Step& s : program.steps) {
    if (s.what.verb == Verb::kMov && s.what.reg() == Reg::kCr3) add(s.what.value);
    if (s.what.verb == Verb::kSregs && s.what.gives(Field::kCr3)) add(s.what.cr3);
  }
  return roots;
}

// A store to a root says that what the entry translates is wanted.
void note_store(const Op& op, const std::vector<std::uint64_t>& roots, Uses& uses) {
  for (const std::uint64_t root : roots) {
    if (op.gpa - root < 32) ++uses.gigabyte[(op.gpa - root) / 8];
    const std::uint64_t directory = root & ~(kPage - 1);
    if (op.gpa - directory >= kPage) continue;
    const std::uint64_t entry = (op.gpa - directory) / 4;
    for (std::uint64_t e = entry; e < std::min<std::uint64_t>(entry + (op.size + 3) / 4, kRegions);
         ++e)
      ++uses.linear[e];
  }
}

Uses uses_of(const Program& program) {
  Uses uses;
  const std::vector<std::uint64_t> roots = roots_of(program);
  std::uint64_t largest = program.machine.memory_bytes();
  Uses::mark(uses.memory, 0, largest);
  for (const Step& s : program.steps) {
    const Op& op = s.what;
    if (op.verb == Verb::kAccess) {
      uses.address(op.gva);
      uses.address(op.gva + op.size - 1);
    } else if (op.verb == Verb::kWrite) {
      note_store(op, roots, uses);
      Uses::mark(uses.memory, op.gpa, op.size);  // a device, but the trace's
    } else if (op.verb == Verb::kSlotAdd) {
      largest = std::max(largest, op.pages * kPage);
      Uses::mark(uses.later, op.gpa, op.pages * kPage);
    } else if (op.verb == Verb::kSlotMove) {
      Uses::mark(uses.later, op.gpa, largest);
    }
  }
  return uses;
}

}  // namespace

bool visits_legacy_mode(const Program& program) {
  if (program.machine.mode != Mode::k4Level && program.machine.mode != Mode::k5Level) return true;
  return std::any_of(program.steps.begin(), program.steps.end(), [](const Step& s) {
    const Op& op = s.what;
    if (op.verb == Verb::kMov) return op.reg() == Reg::kCr0 && (op.value & cr0::kPg) == 0;
    return op.verb == Verb::kInit || op.verb == Verb::kSregs;
  });
}

Layout place_for(const Program& program) {
  if (!visits_legacy_mode(program)) return {};
  const Uses uses = uses_of(program);
  Layout best;
  unsigned least = ~0u;
  for (unsigned g = 4; g-- > 0;) {
    for (unsigned i = 0; i < kRegionsPerGigabyte; ++i) {
      const unsigned region = g * kRegionsPerGigabyte + (kFirstTried + i) % kRegionsPerGigabyte;
      if (uses.memory[region]) continue;
      const unsigned cost =
          uses.gigabyte[g] + uses.linear[region] + (uses.later[region] ? kLaterCost : 0);
      if (cost >= least) continue;
      least = cost;
      best.base = region * kRegion;
    }
  }
  return best;
}

}  // namespace twinwalk::kvm
