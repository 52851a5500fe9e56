#ifndef TWINWALK_HARNESS_TRACE_OP_H_
#define TWINWALK_HARNESS_TRACE_OP_H_

// One operation of a trace. Every field is a 64-bit member, so that one schema
// table (schema.h) serves the parser, the printer, the binary codec and the mutator.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "harness/trace/machine.h"

namespace twinwalk {

// What each takes is in schema.cc and, for people, in the README. "Not executed yet": parsed,
// printed, and skipped by every subject.
enum class Verb : std::uint8_t {
  // guest
  kCpu,    // any subset of the registers; lowered to kMov in the order efer cr4 cr3 cr0 pkru cpl ac
  kMov,    // one register write (MOV CR, WRMSR EFER, WRPKRU; cpl and ac are harness state)
  kMap,    // lowered to kWrite, see program.h
  kWrite,  // a store to guest-physical memory: an emulated instruction, or a host edit
  kAccess,  // a native access through the MMU
  kInvlpg,
  kInvpcid,
  kInit,  // INIT, or with `type` RESET, to the vCPU
  kSmm,   // `enter` is Op::value: memory is address space 1 while in SMM; registers stay
  // host: memslots
  kSlotAdd,
  kSlotDelete,
  kSlotMove,
  kSlotFlags,
  // host: notifier and backing memory. Ranges are [hva, hva + pages * 4K)
  kInvalidate,    // the host drops the frames; the next touch finds new, zeroed ones
  kRemap,         // contents move to new frames
  kProtect,       // a write to a protected page gets a new frame (COW); `writable` is Op::value
  kAge,           // test-and-clear young
  kHugeSplit,     // the 2M host page at hva becomes 4K ones
  kHugeCollapse,  // and back: contents move to one 2M frame
  // host: dirty log, footprint, failure
  kDirtyGet,   // collects and clears the slot's dirty bitmap (flush included)
  kReclaim,    // shrinker: gives back at least that many shadow pages if it has them
  kZapAll,     // fast, generation based
  kQuota,      // new limit of shadow pages; 0 = default
  kFailAlloc,  // `after` allocations succeed, then `count` fail (table pages of the core)
  kAsyncDone,  // `token` is Op::value; not executed yet
  // the trace as hypervisor (Machine::nested)
  kNptMap,   // lowered to kWrite: NPT entries that map `ngpa` (Op::gva) to gpa
  kVmEnter,  // to guest mode: `root` (Op::value) is EPTP or nCR3, `vpid` (Op::pcid) VPID or ASID,
             // `tlb` (Op::type) AMD's TLB_CONTROL
  kVmExit,
  kInvept,
  kInvvpid,
  // guest, continued: what is new comes last, binary traces count by position
  kGet,      // MOV from CR, RDMSR, RDPKRU: the outcome's value
  kInvlpga,  // AMD: `gva`, and the ASID in Op::value; #UD without EFER.SVME
  // host: the vCPU's state
  kSregs,    // any subset of cr0 cr3 cr4 efer at once, as KVM_SET_SREGS: refused if inconsistent
  kCpuid,    // capabilities change under the guest: features, maxphyaddr
  kNewVcpu,  // the vCPU is destroyed, in whatever state it is, and created anew
  kEptMap,   // as kNptMap, with EPT entries
  kPmlGet,   // the page-modification log's addresses in the order of logging, and an empty log
  // host, of two-dimensional paging
  kDirtyClear,  // manual clear of [gpa, gpa + pages * 4K) of the slot's log
  kPrefault,    // the vCPU maps [gpa, gpa + pages * 4K) ahead of use
  kNxRecover,   // up to `pages` huge pages that were split for execution come back
  // host, of both
  kTrack,  // stores to the page of gpa are the core's from now on, or (`on` is Op::value) no more
  kAttributes,  // [gpa, gpa + pages * 4K) becomes private or shared; `private` is Op::value
  kCount,
};

// Those of the trace as hypervisor.
constexpr bool is_of_hypervisor(Verb verb) {
  switch (verb) {
    case Verb::kEptMap:
    case Verb::kNptMap:
    case Verb::kPmlGet:
    case Verb::kVmEnter:
    case Verb::kVmExit:
    case Verb::kInvept:
    case Verb::kInvvpid:
      return true;
    default:
      return false;
  }
}

enum class AccessKind : std::uint8_t { kRead, kWrite, kFetch, kRmw };
enum class Writer : std::uint8_t {
  kGuest,  // a guest instruction that the hypervisor emulates (as KVM's emulator_write_phys)
  kHost,   // the host process edits guest memory behind the core's back: like DMA, never announced
};
enum class Reg : std::uint8_t { kCr0, kCr3, kCr4, kEfer, kPkru, kCpl, kAc };
inline constexpr unsigned kRegs = 7;

// Yield points at which an `at` block runs. The names are the core's (mmu_core/platform.h).
enum class Point : std::uint8_t {
  kNone,
  kAfterWalk,      // guest walk done, nothing installed
  kAfterFrame,     // frame looked up, page-table lock not yet taken
  kBeforeInstall,  // lock held, before the leaf is written
  kAfterInstall,   // leaf written, lock released
  kNotifierBegun,  // between notifier begin and end
  kSlotSwapped,    // new memslots visible, old translations not yet gone
  kBeforeFlush,    // translations removed, flush still owed
  kAfterUnlock,
  kFrozen,   // two dimensions: an entry is frozen while a table is hung there
  kMidWalk,  // in the middle of a walk over a range, the page-table lock given up
  kCount,
};

namespace slot_flag {
inline constexpr std::uint64_t kReadOnly = 1, kLogDirty = 2;
inline constexpr BitName kNames[] = {{"ro", kReadOnly}, {"log", kLogDirty}};
}  // namespace slot_flag

// Names an Op member; its number is the bit of Op::given.
enum class Field : std::uint8_t {
  kGva,
  kGpa,
  kHva,
  kValue,
  kSize,
  kKind,
  kBy,
  kPte,
  kUpper,
  kCr0,
  kCr3,
  kCr4,
  kEfer,
  kPkru,
  kCpl,
  kAc,
  kImplicit,
  kSlot,
  kPages,
  kFlags,
  kType,
  kPcid,
  kAfter,
  kCountField,
  kSpace,
};
inline constexpr unsigned kFields = 25;
constexpr std::uint32_t given_bit(Field f) { return std::uint32_t{1} << static_cast<unsigned>(f); }

// Mask of Op::given: an access that says its CPL; otherwise it runs at the vCPU's current one.
inline constexpr std::uint32_t kCplGiven = given_bit(Field::kCpl);

struct Op {
  Verb verb = Verb::kAccess;
  std::uint8_t vcpu = 0;
  Point point = Point::kNone;  // != kNone: runs inside the preceding point==kNone operation, at
                               // this yield point
  std::uint32_t given =
      0;  // given_bit(f): the trace says field f; a field that it does not say has its default
  std::uint32_t line = 0;  // source line, 0 for binary traces; not part of equality

  std::uint64_t gva = 0, gpa = 0, hva = 0;
  std::uint64_t value = 0;
  std::uint64_t size = 8;  // access/write: 1, 2, 4, 8 bytes; map: page level 1..3
  std::uint64_t kind = 0;  // AccessKind or Reg
  std::uint64_t by = 0;    // Writer
  std::uint64_t pte = pte::kP | pte::kW | pte::kU;    // map: bits of the leaf
  std::uint64_t upper = pte::kP | pte::kW | pte::kU;  // map: bits of the entries above
  std::uint64_t cr0 = 0, cr3 = 0, cr4 = 0, efer = 0, pkru = 0, cpl = 0, ac = 0;
  std::uint64_t implicit = 0;  // access: implicit supervisor access (descriptor table, TSS)
  std::uint64_t slot = 0, pages = 0, flags = 0, type = 0, pcid = 0, after = 0, count = 0;
  std::uint64_t space = 0;  // address space of a memslot: 0, or 1 for SMM

  bool gives(Field f) const { return (given & given_bit(f)) != 0; }
  AccessKind access() const { return static_cast<AccessKind>(kind); }
  Reg reg() const { return static_cast<Reg>(kind); }
  Writer writer() const { return static_cast<Writer>(by); }
  // Same verb, vCPU, point, and the same fields of the verb said and with the same values.
  friend bool operator==(const Op&, const Op&);
};

struct Expectation {  // an optional `=` line after an operation, kept as canonical text (what
                      // follows the `=`)
  std::uint32_t op = 0;
  std::string text;
  friend bool operator==(const Expectation&, const Expectation&) = default;
};

struct Trace {
  Machine machine;
  std::vector<Op> ops;
  // What people wrote around it. Comments stay with the operation they precede
  // (op == ops.size(): at the end), so that formatting loses nothing. The text
  // is the line with its `#`; an empty text is an empty line.
  struct Comment {
    std::uint32_t op = 0;
    std::string text;
    friend bool operator==(const Comment&, const Comment&) = default;
  };
  std::string requires_line;       // words after `requires`, canonical; empty if there is none
  std::vector<std::string> known;  // ids of `known ID` lines
  std::vector<Comment> comments;   // those before the machine line have op == kHeader
  std::vector<Expectation> expectations;
  static constexpr std::uint32_t kHeader = ~std::uint32_t{0};

  void clear();  // keeps capacity, so a fuzz loop does not allocate
  friend bool operator==(const Trace&, const Trace&) = default;
};

inline constexpr std::size_t kMaxOps = 1u << 20;  // text
inline constexpr std::size_t kMaxFuzzOps =
    256;  // binary traces from fuzzers decode to at most this many

// What that register holds.
std::uint64_t value_of(const Registers& registers, Reg reg);

std::string_view name_of(Verb);
std::string_view name_of(AccessKind);
std::string_view name_of(Writer);
std::string_view name_of(Reg);
std::string_view name_of(Point);

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_TRACE_OP_H_
