#ifndef TWINWALK_HARNESS_SWEEP_SWEEP_CASE_H_
#define TWINWALK_HARNESS_SWEEP_SWEEP_CASE_H_

// One point of the sweep, and the axes along which points differ: all of it data.

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "harness/trace/machine.h"
#include "harness/trace/op.h"

namespace twinwalk::sweep {

// Everything that decides one access: machine, the entries of its path, registers, the access. The
// paging mode is the machine's: no case leaves the one that it starts in.
struct SweepCase {
  Machine machine;
  std::uint8_t leaf_level = 1;  // 1 = 4K, 2 = 2M (4M in 32-bit mode), 3 = 1G
  std::uint64_t entry[6] = {};  // [level]: bits without address; levels below the leaf are not used
  std::uint64_t second_leaf = 0;  // bits of the leaf of the next page, for accesses that cross
  Registers registers;
  AccessKind kind = AccessKind::kRead;
  bool implicit = false;
  std::uint64_t gva = 0;
  std::uint8_t size = 8;
  // Machine::nested: the guest-physical page under test has a path of its own in the second
  // dimension, whose entries these are; all else is mapped one to one by 4K pages.
  std::uint8_t target = 0;             // the page under test: 0 the data, else the table of a level
  std::uint8_t nested_leaf_level = 1;  // of its path
  std::uint64_t nested[6] = {};        // [level]: bits without address
  bool flags = true;                   // EPTP bit 6
};

// What of a case an axis value changes.
enum class Part : std::uint8_t {
  kEntry,  // entry[level]
  kSecondLeaf,
  kLeafLevel,
  kCr0,
  kCr4,
  kEfer,
  kPkru,
  kCpl,
  kAc,
  kImplicit,
  kKind,
  kSize,
  kGva,
  kGvaOffset,
  kVendor,
  kFeatures,
  kMaxphyaddr,
  kHostLevels,
  kNested,  // nested[level]; level 0: the leaf, whichever it is
  kNestedLeafLevel,
  kTarget,
  kFlags,
  kTdp,
  kHostMaxphyaddr,
};

// `part` becomes (part & ~clear) | set. `top_reserved`: set the lowest reserved address bit of the
// machine (of the second dimension: the host's) instead.
struct Change {
  Part part = Part::kEntry;
  std::uint8_t level = 0;
  std::uint64_t clear = 0, set = 0;
  bool top_reserved = false;
};

struct AxisValue {
  std::string_view label;
  Change change;
};

// When an axis is turned, what must be done anew.
enum class Scope : std::uint8_t {
  kProgram,  // machine or entries: a new program
  kAccess,   // registers or the access itself: further steps of the same program
};

struct Axis {
  std::string_view name;
  Scope scope = Scope::kAccess;
  std::vector<AxisValue> values;
};

// A cross product of axes, slowest first; all kProgram axes come first.
struct Block {
  Mode mode = Mode::k4Level;
  std::string_view name;
  std::string_view about;
  std::vector<Axis> axes;
  // Each access finds the entries as the case has them, without A and D of earlier ones: written
  // again, and the translations dropped, before each.
  bool rewrite = false;
  Nesting nesting = Nesting::kNone;
};

// A combination that is left out, and why. Returns true for a case to leave out.
struct Filter {
  std::string_view reason;
  Scope scope;
  bool (*applies)(const SweepCase&);
};

// Levels of the mode's tables; 0 with paging off.
unsigned levels_of(Mode mode);
constexpr bool is_long(Mode mode) { return mode == Mode::k4Level || mode == Mode::k5Level; }

SweepCase base_case(Mode mode);
SweepCase base_case(const Block& block);
// Levels of the second dimension's tables.
unsigned nested_levels(const Machine& machine);
void apply(const Change& change, SweepCase& to);
// Every block of every mode, mode by mode: of one dimension, or of a guest on EPT or NPT.
const std::vector<Block>& blocks(Nesting nesting = Nesting::kNone);
const std::vector<Block>& nested_blocks(Nesting nesting);
std::span<const Filter> filters(Nesting nesting = Nesting::kNone);
std::span<const Filter> nested_filters();

}  // namespace twinwalk::sweep

#endif  // TWINWALK_HARNESS_SWEEP_SWEEP_CASE_H_
