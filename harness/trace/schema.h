#ifndef TWINWALK_HARNESS_TRACE_SCHEMA_H_
#define TWINWALK_HARNESS_TRACE_SCHEMA_H_

// What every verb and the machine line consist of: one table, read by parser,
// printer, binary codec and mutator. A field exists if, and only if, it stands here.

#include <cstdint>
#include <span>
#include <string_view>

#include "harness/trace/op.h"

namespace twinwalk {

// How a field is written, and what kind of value a mutator should try.
enum class FieldKind : std::uint8_t {
  kGva,      // guest-linear address, hex; any 64 bits
  kGpa,      // guest-physical address, hex
  kHva,      // host-virtual address, hex
  kHex,      // any other number, hex
  kDecimal,  // a count
  kQuota,    // a count of shadow pages: 0 or at least kMinQuota
  kFlag,     // 0 or 1
  kBits,     // names of FieldInfo::names and hex numbers, joined by `|`
  kRoot,     // the same for CR3: a root's address, PCID, noflush
  kEntry,    // the same with the names of a paging-structure entry, and pkN for its protection key
  kData,     // data or an entry: as kEntry if P is set, else a number
  kPageLevel,      // 4K 2M 1G, held as 1 2 3
  kBytes,          // 1 2 4 8
  kWidth,          // MAXPHYADDR, bits
  kEnum,           // one of FieldInfo::names
  kEnumWord,       // the same without `name=`: the word alone, first on the line
  kRegister,       // `mov`: the name of a register, and ...
  kRegisterValue,  // ... the value after its `=`, written as RegisterInfo says
};

enum class Presence : std::uint8_t {
  kRequired,
  kDefault,   // absent means FieldInfo::fallback
  kOptional,  // absent is different from every value (given or non-zero means said)
};

struct FieldInfo {
  Field id;
  std::string_view name;
  std::uint64_t Op::*member;
  FieldKind kind;
  Presence presence = Presence::kRequired;
  std::uint64_t fallback = 0;
  std::uint64_t max = ~std::uint64_t{0};  // legal: [0, max], narrowed further by legal()
  std::span<const BitName> names =
      {};  // kBits: names and masks; kEnum, kEnumWord: names and values
};

struct VerbInfo {
  Verb verb;
  std::span<const FieldInfo> fields;  // in canonical order
  bool executed;          // false: parsed, printed, and skipped by every subject for now
  std::string_view does;  // one sentence
};

const VerbInfo& schema_of(Verb verb);

// How a register's value is written; `member` is where `cpu` keeps it.
struct RegisterInfo {
  Reg reg;
  Field field;
  std::uint64_t Op::*member;
  FieldKind kind;
  std::uint64_t max;
  std::span<const BitName> names;
  std::uint64_t usual;  // at the start of a trace
};
const RegisterInfo& register_info(Reg reg);

// The field as it is in `op`: kRegisterValue resolved by the register that `op` names, anything
// else unchanged.
FieldInfo resolve(const FieldInfo& field, const Op& op);

// Whether `value` may stand in `field` (resolved).
bool legal(const FieldInfo& field, std::uint64_t value);
// The nearest legal value by masking; `value` itself if it is legal.
std::uint64_t make_legal(const FieldInfo& field, std::uint64_t value);

// Whether the operation says this field, so that it is printed and encoded.
bool says(const Op& op, const FieldInfo& field);

// An operation of that verb with every field at its fallback.
Op make_op(Verb verb);
// Sets a field of the verb and marks it as given. Precondition: the verb has the field.
void set(Op& op, Field field, std::uint64_t value);

// The machine line.
struct MachineField {
  std::string_view name;
  enum class Kind : std::uint8_t { kEnum, kBits, kDecimal, kQuota, kMebibytes, kPageLevel } kind;
  std::uint64_t (*get)(const Machine&);
  void (*set)(Machine&, std::uint64_t);
  std::uint64_t min, max;  // legal: [min, max], narrowed further by legal()
  std::span<const BitName> names;
  bool always_printed;
};
std::span<const MachineField> machine_fields();
bool legal(const MachineField& field, std::uint64_t value);
std::uint64_t make_legal(const MachineField& field, std::uint64_t value);
// Fields that bound each other: raises host_maxphyaddr to maxphyaddr, and adds what the mode needs.
void reconcile(Machine& machine);

// Most that a field of that sort may say.
inline constexpr std::uint64_t kMaxPages = 1u << 20;  // 4 GiB, the size of the hva space
inline constexpr std::uint64_t kMaxSlotNumber = 2 * kMaxSlots - 1;
// What a trace can ask for. A core raises what is too little for it to work with.
inline constexpr std::uint64_t kMaxQuota = 0xffff, kMinQuota = 8;
inline constexpr std::uint64_t kMinWidth = 36, kMaxWidth = 52;  // of MAXPHYADDR

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_TRACE_SCHEMA_H_
