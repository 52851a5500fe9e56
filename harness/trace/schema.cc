#include "harness/trace/schema.h"

#include <bit>
#include <cstddef>
#include <type_traits>

namespace twinwalk {
namespace {

using K = FieldKind;
constexpr auto kRequired = Presence::kRequired;
constexpr auto kDefault = Presence::kDefault;
constexpr auto kOptional = Presence::kOptional;
constexpr std::uint64_t kAny = ~std::uint64_t{0};
constexpr std::uint64_t kPwu = pte::kP | pte::kW | pte::kU;
constexpr std::uint64_t kLargestCount = 0xffff;

constexpr BitName kAccessNames[] = {{"read", 0}, {"write", 1}, {"fetch", 2}, {"rmw", 3}};
constexpr BitName kWriterNames[] = {{"guest", 0}, {"host", 1}};
constexpr BitName kRegNames[] = {{"cr0", 0},  {"cr3", 1}, {"cr4", 2}, {"efer", 3},
                                 {"pkru", 4}, {"cpl", 5}, {"ac", 6}};
static_assert(std::size(kRegNames) == kRegs);
constexpr BitName kInitNames[] = {{"init", 0}, {"reset", 1}};

constexpr Registers kUsual;
constexpr RegisterInfo kRegisters[] = {
    {Reg::kCr0, Field::kCr0, &Op::cr0, K::kBits, kAny, cr0::kNames, kUsual.cr0},
    {Reg::kCr3, Field::kCr3, &Op::cr3, K::kRoot, kAny, cr3::kNames, kUsual.cr3},
    {Reg::kCr4, Field::kCr4, &Op::cr4, K::kBits, kAny, cr4::kNames, kUsual.cr4},
    {Reg::kEfer, Field::kEfer, &Op::efer, K::kBits, kAny, efer::kNames, kUsual.efer},
    {Reg::kPkru, Field::kPkru, &Op::pkru, K::kHex, 0xffff'ffff, {}, 0},
    {Reg::kCpl, Field::kCpl, &Op::cpl, K::kDecimal, 3, {}, 0},
    {Reg::kAc, Field::kAc, &Op::ac, K::kFlag, 1, {}, 0}};

// Fields that mean the same in every verb that has them.
constexpr FieldInfo gva(Presence p = kRequired) {
  return {Field::kGva, "gva", &Op::gva, K::kGva, p};
}
constexpr FieldInfo gpa() { return {Field::kGpa, "gpa", &Op::gpa, K::kGpa}; }
constexpr FieldInfo hva() { return {Field::kHva, "hva", &Op::hva, K::kHva}; }
constexpr FieldInfo slot() {
  return {Field::kSlot, "slot", &Op::slot, K::kDecimal, kRequired, 0, kMaxSlotNumber};
}
constexpr FieldInfo pages(Presence p) {
  return {Field::kPages, "pages", &Op::pages, K::kDecimal, p, p == kDefault ? 1u : 0u, kMaxPages};
}
constexpr FieldInfo slot_flags(Presence p) {
  return {Field::kFlags, "flags", &Op::flags, K::kBits, p, 0, 3, slot_flag::kNames};
}
constexpr FieldInfo by() {
  return {Field::kBy, "by", &Op::by, K::kEnum, kDefault, 0, 1, kWriterNames};
}
constexpr FieldInfo type() {
  return {Field::kType, "type", &Op::type, K::kDecimal, kRequired, 0, 7};
}
constexpr FieldInfo pcid() { return {Field::kPcid, "pcid", &Op::pcid, K::kHex, kDefault}; }
constexpr FieldInfo leaf_bits() {
  return {Field::kPte, "pte", &Op::pte, K::kEntry, kDefault, kPwu};
}
constexpr FieldInfo value(std::string_view name, FieldKind kind, Presence p = kRequired,
                          std::uint64_t max = kAny) {
  return {Field::kValue, name, &Op::value, kind, p, 0, max};
}
constexpr FieldInfo page_level() {
  return {Field::kSize, "size", &Op::size, K::kPageLevel, kDefault, 1, 3};
}
constexpr FieldInfo bytes() { return {Field::kSize, "size", &Op::size, K::kBytes, kDefault, 8, 8}; }

constexpr FieldInfo kCpuFields[] = {
    {Field::kCr0, "cr0", &Op::cr0, K::kBits, kOptional, 0, kAny, cr0::kNames},
    {Field::kCr3, "cr3", &Op::cr3, K::kRoot, kOptional, 0, kAny, cr3::kNames},
    {Field::kCr4, "cr4", &Op::cr4, K::kBits, kOptional, 0, kAny, cr4::kNames},
    {Field::kEfer, "efer", &Op::efer, K::kBits, kOptional, 0, kAny, efer::kNames},
    {Field::kPkru, "pkru", &Op::pkru, K::kHex, kOptional, 0, 0xffff'ffff},
    {Field::kCpl, "cpl", &Op::cpl, K::kDecimal, kOptional, 0, 3},
    {Field::kAc, "ac", &Op::ac, K::kFlag, kOptional, 0, 1}};
constexpr FieldInfo kMovFields[] = {
    {Field::kKind, "register", &Op::kind, K::kRegister, kRequired, 0, kRegs - 1, kRegNames},
    {Field::kValue, "value", &Op::value, K::kRegisterValue}};
constexpr FieldInfo kMapFields[] = {gva(),
                                    gpa(),
                                    page_level(),
                                    leaf_bits(),
                                    {Field::kUpper, "upper", &Op::upper, K::kEntry, kDefault, kPwu},
                                    by()};
constexpr FieldInfo kWriteFields[] = {gpa(), value("value", K::kData, kOptional), bytes(), by()};
constexpr FieldInfo kAccessFields[] = {
    {Field::kKind, "kind", &Op::kind, K::kEnumWord, kRequired, 0, 3, kAccessNames},
    gva(),
    bytes(),
    value("value", K::kData, kOptional),
    {Field::kCpl, "cpl", &Op::cpl, K::kDecimal, kOptional, 0, 3},
    {Field::kImplicit, "implicit", &Op::implicit, K::kFlag, kDefault, 0, 1}};
constexpr FieldInfo space() {
  return {Field::kSpace, "as", &Op::space, K::kDecimal, kDefault, 0, kSpaces - 1};
}
constexpr FieldInfo register_word() {
  return {Field::kKind, "register", &Op::kind, K::kEnumWord, kRequired, 0, kRegs - 1, kRegNames};
}
constexpr FieldInfo kInvlpgFields[] = {gva()};
constexpr FieldInfo kInvpcidFields[] = {type(), pcid(), gva(kDefault)};
constexpr FieldInfo kInitFields[] = {
    {Field::kType, "type", &Op::type, K::kEnum, kDefault, 0, 1, kInitNames}};
constexpr FieldInfo kSmmFields[] = {value("enter", K::kFlag, kRequired, 1)};
constexpr FieldInfo kSlotAddFields[] = {
    slot(), gpa(), pages(kRequired), hva(), slot_flags(kDefault), space()};
constexpr FieldInfo kSlotFields[] = {slot(), space()};
constexpr FieldInfo kSlotMoveFields[] = {slot(), gpa(), space()};
constexpr FieldInfo kSlotFlagsFields[] = {slot(), slot_flags(kRequired), space()};
constexpr FieldInfo kHvaRangeFields[] = {hva(), pages(kDefault)};
constexpr FieldInfo kProtectFields[] = {hva(), pages(kDefault),
                                        value("writable", K::kFlag, kRequired, 1)};
constexpr FieldInfo kHvaFields[] = {hva()};
constexpr FieldInfo kReclaimFields[] = {pages(kRequired)};
constexpr FieldInfo kQuotaFields[] = {
    {Field::kPages, "pages", &Op::pages, K::kQuota, kRequired, 0, kMaxQuota}};
constexpr FieldInfo kFailAllocFields[] = {
    {Field::kAfter, "after", &Op::after, K::kDecimal, kDefault, 0, kLargestCount},
    {Field::kCountField, "count", &Op::count, K::kDecimal, kDefault, 1, kLargestCount}};
constexpr FieldInfo kAsyncDoneFields[] = {value("token", K::kHex)};
constexpr FieldInfo ngpa() { return {Field::kGva, "ngpa", &Op::gva, K::kGpa}; }
constexpr FieldInfo nested_root() {
  return {Field::kCr3, "root", &Op::cr3, K::kHex, kDefault, kNestedPool};
}
constexpr FieldInfo kNptMapFields[] = {
    ngpa(),
    gpa(),
    page_level(),
    leaf_bits(),
    {Field::kUpper, "upper", &Op::upper, K::kEntry, kDefault, kPwu},
    nested_root()};
constexpr std::uint64_t kRwx = ept::kR | ept::kW | ept::kX;
constexpr FieldInfo kEptMapFields[] = {
    ngpa(),
    gpa(),
    page_level(),
    {Field::kPte, "ept", &Op::pte, K::kBits, kDefault, kRwx | ept::kWb, kAny, ept::kNames},
    {Field::kUpper, "upper", &Op::upper, K::kBits, kDefault, kRwx, kAny, ept::kNames},
    nested_root()};
constexpr FieldInfo eptp() {
  constexpr std::uint64_t kUsualEptp = kNestedPool | eptp::kWb | eptp::k4Level;
  return {Field::kValue, "root", &Op::value, K::kBits, kDefault, kUsualEptp, kAny, eptp::kNames};
}
constexpr FieldInfo vpid(std::uint64_t fallback) {
  return {Field::kPcid, "vpid", &Op::pcid, K::kHex, kDefault, fallback, 0xffff};
}
constexpr FieldInfo kVmEnterFields[] = {
    eptp(), vpid(1), {Field::kType, "tlb", &Op::type, K::kDecimal, kDefault, 0, 7}};
constexpr FieldInfo kInveptFields[] = {type(), eptp()};
constexpr FieldInfo kInvvpidFields[] = {type(), vpid(0), gva(kDefault)};
constexpr FieldInfo kDirtyClearFields[] = {slot(), gpa(), pages(kDefault), space()};
constexpr FieldInfo kPrefaultFields[] = {gpa(), pages(kDefault)};
constexpr FieldInfo kTrackFields[] = {gpa(), value("on", K::kFlag, kRequired, 1), space()};
constexpr FieldInfo kAttributesFields[] = {gpa(), pages(kDefault),
                                           value("private", K::kFlag, kRequired, 1)};
constexpr FieldInfo kGetFields[] = {register_word()};
constexpr FieldInfo kInvlpgaFields[] = {gva(), value("asid", K::kHex)};
constexpr FieldInfo kSregsFields[] = {
    {Field::kCr0, "cr0", &Op::cr0, K::kBits, kOptional, 0, kAny, cr0::kNames},
    {Field::kCr3, "cr3", &Op::cr3, K::kRoot, kOptional, 0, kAny, cr3::kNames},
    {Field::kCr4, "cr4", &Op::cr4, K::kBits, kOptional, 0, kAny, cr4::kNames},
    {Field::kEfer, "efer", &Op::efer, K::kBits, kOptional, 0, kAny, efer::kNames}};
constexpr FieldInfo kCpuidFields[] = {
    {Field::kFlags, "features", &Op::flags, K::kBits, kOptional, 0, feature::kAll, feature::kNames},
    {Field::kValue, "maxphyaddr", &Op::value, K::kWidth, kOptional, 40, kMaxWidth}};

constexpr VerbInfo kVerbs[] = {
    {Verb::kCpu, kCpuFields, true,
     "Writes the registers it names, in the order efer cr4 cr3 cr0 pkru cpl ac."},
    {Verb::kMov, kMovFields, true, "Writes one register."},
    {Verb::kMap, kMapFields, true, "Writes the entries that map gva to gpa, from the root down."},
    {Verb::kWrite, kWriteFields, true,
     "Stores to guest-physical memory: an emulated instruction, or the host."},
    {Verb::kAccess, kAccessFields, true, "Accesses memory natively, through the MMU."},
    {Verb::kInvlpg, kInvlpgFields, true, "INVLPG."},
    {Verb::kInvpcid, kInvpcidFields, true, "INVPCID."},
    {Verb::kInit, kInitFields, true, "INIT or RESET to the vCPU."},
    {Verb::kSmm, kSmmFields, true, "Enters or leaves SMM."},
    {Verb::kSlotAdd, kSlotAddFields, true, "Adds a memslot."},
    {Verb::kSlotDelete, kSlotFields, true, "Deletes a memslot."},
    {Verb::kSlotMove, kSlotMoveFields, true, "Moves a memslot to another gpa."},
    {Verb::kSlotFlags, kSlotFlagsFields, true, "Replaces a memslot's flags."},
    {Verb::kInvalidate, kHvaRangeFields, true,
     "The host drops the frames; the next touch finds zeroed ones."},
    {Verb::kRemap, kHvaRangeFields, true, "The host moves the contents to new frames."},
    {Verb::kProtect, kProtectFields, true,
     "Host protection; a write to a protected page gets a new frame."},
    {Verb::kAge, kHvaRangeFields, true, "Tests and clears young."},
    {Verb::kHugeSplit, kHvaFields, true, "The 2M host page at hva becomes 4K ones."},
    {Verb::kHugeCollapse, kHvaFields, true, "The 4K host pages at hva become one 2M page."},
    {Verb::kDirtyGet, kSlotFields, true, "Collects and clears the memslot's dirty bitmap."},
    {Verb::kReclaim, kReclaimFields, true, "The shrinker takes back shadow pages."},
    {Verb::kZapAll, {}, true, "Drops every shadow page, by generation."},
    {Verb::kQuota, kQuotaFields, true, "Limits the shadow pages in use; 0 is the core's default."},
    {Verb::kFailAlloc, kFailAllocFields, true,
     "Lets `after` allocations of the core succeed and then `count` fail."},
    {Verb::kAsyncDone, kAsyncDoneFields, false, "Completes an asynchronous page fault."},
    {Verb::kNptMap, kNptMapFields, true, "Writes the NPT entries that map ngpa to gpa."},
    {Verb::kVmEnter, kVmEnterFields, true, "Enters guest mode with that EPTP or nCR3."},
    {Verb::kVmExit, {}, true, "Leaves guest mode."},
    {Verb::kInvept, kInveptFields, true, "INVEPT."},
    {Verb::kInvvpid, kInvvpidFields, true, "INVVPID."},
    {Verb::kGet, kGetFields, true, "Reads a register."},
    {Verb::kInvlpga, kInvlpgaFields, true, "INVLPGA."},
    {Verb::kSregs, kSregsFields, true, "The host sets control registers, all at once."},
    {Verb::kCpuid, kCpuidFields, true, "The host changes the processor's capabilities."},
    {Verb::kNewVcpu, {}, true, "The host destroys the vCPU and creates it anew."},
    {Verb::kEptMap, kEptMapFields, true, "Writes the EPT entries that map ngpa to gpa."},
    {Verb::kPmlGet, {}, true, "Takes what the page-modification log has."},
    {Verb::kDirtyClear, kDirtyClearFields, true, "Clears a range of the memslot's dirty log."},
    {Verb::kPrefault, kPrefaultFields, true, "Maps a range of guest-physical memory ahead of use."},
    {Verb::kNxRecover, kReclaimFields, true,
     "Gives back huge pages that were split for execution."},
    {Verb::kTrack, kTrackFields, true, "Tracks the guest's stores to a page, or no more."},
    {Verb::kAttributes, kAttributesFields, true,
     "The host makes a range of the guest's memory private, or shared."}};
static_assert(std::size(kVerbs) == static_cast<std::size_t>(Verb::kCount));

constexpr bool in_order() {
  for (std::size_t i = 0; i < std::size(kVerbs); ++i) {
    if (kVerbs[i].verb != static_cast<Verb>(i)) return false;
  }
  for (std::size_t i = 0; i < std::size(kRegisters); ++i) {
    if (kRegisters[i].reg != static_cast<Reg>(i)) return false;
  }
  return true;
}
static_assert(in_order(), "schema_of and register_info index by number");

constexpr BitName kVendorNames[] = {{"intel", 0}, {"amd", 1}};
constexpr BitName kDimensionNames[] = {{"shadow", 0}, {"ept", 1}, {"npt", 2}, {"bare", 3}};
constexpr BitName kNestingNames[] = {{"none", 0}, {"ept", 1}, {"npt", 2}, {"shadow", 3}};
constexpr BitName kModeNames[] = {
    {"none", 0}, {"32-bit", 1}, {"pae", 2}, {"4-level", 3}, {"5-level", 4}};
constexpr BitName kTlbNames[] = {{"stale", 0}, {"small", 1}, {"fresh", 2}};

template <auto Member>
std::uint64_t get(const Machine& m) {
  return static_cast<std::uint64_t>(m.*Member);
}
template <auto Member>
void put(Machine& m, std::uint64_t v) {
  m.*Member = static_cast<std::remove_reference_t<decltype(m.*Member)>>(v);
}
template <auto Member>
constexpr MachineField field(std::string_view name, MachineField::Kind kind, std::uint64_t min,
                             std::uint64_t max, std::span<const BitName> names = {},
                             bool always = false) {
  return {name, kind, get<Member>, put<Member>, min, max, names, always};
}

using MK = MachineField::Kind;
constexpr MachineField kMachineFields[] = {
    field<&Machine::core>("core", MK::kEnum, 0, 3, kDimensionNames, true),
    field<&Machine::nested>("nested", MK::kEnum, 0, 3, kNestingNames),
    field<&Machine::memory_mib>("memory", MK::kMebibytes, 2, 1024, {}, true),
    field<&Machine::vcpus>("vcpus", MK::kDecimal, 1, kMaxVcpus, {}, true),
    field<&Machine::vendor>("vendor", MK::kEnum, 0, 1, kVendorNames),
    field<&Machine::maxphyaddr>("maxphyaddr", MK::kDecimal, kMinWidth, kMaxWidth),
    field<&Machine::host_maxphyaddr>("host-maxphyaddr", MK::kDecimal, kMinWidth, kMaxWidth),
    field<&Machine::features>("features", MK::kBits, 0, feature::kAll, feature::kNames),
    field<&Machine::tlb>("tlb", MK::kEnum, 0, 2, kTlbNames),
    field<&Machine::tlb_entries>("tlb-entries", MK::kDecimal, 1, 256),
    field<&Machine::host_page_level>("host-pages", MK::kPageLevel, 1, 3),
    field<&Machine::options>("options", MK::kBits, 0, option::kAll, option::kNames),
    field<&Machine::quota>("quota", MK::kQuota, 0, kMaxQuota),
    field<&Machine::mode>("mode", MK::kEnum, 0, 4, kModeNames),
    field<&Machine::host_levels>("host-levels", MK::kDecimal, 3, 5),
    field<&Machine::tdp>("tdp", MK::kBits, 0, tdp::kAll, tdp::kNames)};

bool legal_quota(std::uint64_t pages) { return pages == 0 || pages >= kMinQuota; }

// `value` brought into [0, max] so that nearby values stay different where they can.
std::uint64_t fold(std::uint64_t value, std::uint64_t max) {
  return value <= max ? value : value % (max + 1);
}

}  // namespace

const VerbInfo& schema_of(Verb verb) { return kVerbs[static_cast<std::size_t>(verb)]; }
const RegisterInfo& register_info(Reg reg) { return kRegisters[static_cast<std::size_t>(reg)]; }

FieldInfo resolve(const FieldInfo& field, const Op& op) {
  if (field.kind != K::kRegisterValue) return field;
  const RegisterInfo& r = register_info(static_cast<Reg>(op.kind % kRegs));
  FieldInfo out = field;
  out.kind = r.kind;
  out.max = r.max;
  out.names = r.names;
  return out;
}

bool legal(const FieldInfo& field, std::uint64_t value) {
  switch (field.kind) {
    case K::kPageLevel:
      return value >= 1 && value <= 3;
    case K::kBytes:
      return value <= 8 && std::has_single_bit(value);
    case K::kQuota:
      return value <= field.max && legal_quota(value);
    case K::kWidth:
      return value >= kMinWidth && value <= kMaxWidth;
    default:
      return value <= field.max;
  }
}

std::uint64_t make_legal(const FieldInfo& field, std::uint64_t value) {
  if (legal(field, value)) return value;
  switch (field.kind) {
    case K::kPageLevel:
      return 1 + value % 3;
    case K::kBytes:
      return std::uint64_t{1} << value % 4;
    case K::kWidth:
      return kMinWidth + value % (kMaxWidth - kMinWidth + 1);
    default:
      value = fold(value, field.max);
      return legal(field, value) ? value : value + kMinQuota;
  }
}

bool says(const Op& op, const FieldInfo& field) {
  const std::uint64_t v = op.*field.member;
  switch (field.presence) {
    case Presence::kRequired:
      return true;
    case Presence::kDefault:
      return op.gives(field.id) || (v != field.fallback && legal(field, v));
    case Presence::kOptional:
      return op.gives(field.id) || v != 0;
  }
  return false;
}

Op make_op(Verb verb) {
  Op op;
  op.verb = verb;
  for (const FieldInfo& f : schema_of(verb).fields) op.*f.member = f.fallback;
  return op;
}

void set(Op& op, Field id, std::uint64_t value) {
  for (const FieldInfo& f : schema_of(op.verb).fields) {
    if (f.id != id) continue;
    op.*f.member = value;
    op.given |= given_bit(id);
  }
}

bool operator==(const Op& a, const Op& b) {
  if (a.verb != b.verb || a.vcpu != b.vcpu || a.point != b.point) return false;
  for (const FieldInfo& f : schema_of(a.verb).fields) {
    const bool said = says(a, f);
    if (said != says(b, f) || (said && a.*f.member != b.*f.member)) return false;
  }
  return true;
}

std::span<const MachineField> machine_fields() { return kMachineFields; }

bool legal(const MachineField& field, std::uint64_t value) {
  if (value < field.min || value > field.max) return false;
  if (field.kind == MK::kMebibytes) return value % 2 == 0;
  return field.kind != MK::kQuota || legal_quota(value);
}

std::uint64_t make_legal(const MachineField& field, std::uint64_t value) {
  if (legal(field, value)) return value;
  value = field.min + value % (field.max - field.min + 1);
  if (field.kind == MK::kMebibytes) return value & ~std::uint64_t{1};
  return legal(field, value) ? value : value + kMinQuota;
}

void reconcile(Machine& machine) {
  if (machine.host_maxphyaddr < machine.maxphyaddr) machine.host_maxphyaddr = machine.maxphyaddr;
  if (machine.mode == Mode::kPae || machine.mode == Mode::k4Level || machine.mode == Mode::k5Level)
    machine.features |= feature::kPae;
  if (machine.mode == Mode::k5Level) machine.features |= feature::kLa57;
  if (machine.tdp & tdp::kExternal) machine.tdp |= tdp::kPrivate;
  if (machine.tdp & tdp::kPrivate) machine.tdp |= tdp::kUnrestricted;
}

}  // namespace twinwalk
