#ifndef TWINWALK_HARNESS_TRACE_OUTCOME_H_
#define TWINWALK_HARNESS_TRACE_OUTCOME_H_

// What a subject was seen to do in one step. Self-contained: the checker never
// reads a subject's memory.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace twinwalk {

inline constexpr std::uint64_t kUnknownGpa = ~std::uint64_t{0};

enum class OutcomeKind : std::uint8_t {
  kDone,  // a step without a visible result (write, host event, invlpg, accepted register write)
  kOk,    // access completed
  kPageFault,  // #PF: error_code, cr2
  kGp,         // #GP(0): non-canonical access, illegal register write, illegal INVPCID
  kSs,         // #SS(0)
  kMmio,       // exit to the device model: gpa; a load sees mmio_word
  kRefused,  // a host request that the subject refused (overlapping slot, no such slot, allocation
             // failed): nothing changed
  kSkip,     // not executed; `reason` says why. Nothing changed
  kUd,       // #UD: an instruction that the vCPU does not have
  // What a hypervisor sees of its guest (Machine::nested). The access is not done.
  kEptViolation,  // qualification, gpa; cr2 is the linear address if eqx::kGvaValid
  kEptMisconfig,  // gpa
  kNestedFault,   // #NPF: qualification is EXITINFO1 (npfec::*), gpa
  kPmlFull,       // the page-modification log is full
  kVmFail,  // VM entry, INVEPT or INVVPID with operands that it does not take; nothing changed
};

enum class SkipReason : std::uint8_t {
  kNone,
  kModeNotSupported,
  kNestedNotSupported,
  kInterleavingNotSupported,
  kVerbNotSupported,
  kFeatureNotSupported,
  kVcpuNotThere,
  kSubjectStopped,
  kHostLacksFeature,
};

// What a subject itself found to be wrong (its audit, its host memory, its liveness bound).
enum class Complaint : std::uint8_t {
  kNone,
  kEscape,  // touched a frame that is not the guest's
  kAuditRmap,
  kAuditParent,
  kAuditUnsync,
  kAuditHash,
  kAuditCount,
  kAuditRole,
  kAuditContent,
  kAuditReserved,
  kAuditWritable,
  kAuditNotifier,
  kAuditDirty,
  kAuditLeak,
  kTableFreedInUse,  // a table or frame was given back while a TLB or paging-structure entry still
                     // reached it
  kLiveness,         // refault bound exceeded
  kTrap,             // broken invariant inside the subject
};

// The entries that a walk of the subject's own guest memory for the accessed address finds after
// the step, root first: as many as the walk reads, ending with the first that is not present, is a
// leaf, or lies outside memory (that one is not counted). Reserved bits do not end it.
struct Path {
  std::uint8_t count = 0;
  std::uint64_t entry[5] = {};
};

// The entries of a subject's second dimension that translate one guest-physical address, root
// first, as they are; the last one is not present, malformed or a leaf.
struct NestedPath {
  std::uint8_t count = 0;
  std::uint8_t levels = 0;  // entry[i] is of level `levels - i`
  std::uint64_t at[5] = {}, entry[5] = {};
  bool leads = false;  // to hpa, whatever the rights
  std::uint64_t hpa = 0;
};

struct Outcome {
  OutcomeKind kind = OutcomeKind::kDone;
  SkipReason reason = SkipReason::kNone;
  Complaint complaint = Complaint::kNone;
  bool write = false;               // kMmio: direction
  std::uint32_t error_code = 0;     // kPageFault
  std::uint64_t cr2 = 0;            // kPageFault
  std::uint64_t qualification = 0;  // kEptViolation, kNestedFault
  // kOk: where the first byte (and, if the access crosses a page, the first byte of the second
  // page) was seen to land, kUnknownGpa if the subject cannot tell. kMmio: the address.
  std::uint64_t gpa[2] = {kUnknownGpa, kUnknownGpa};
  // kOk read/rmw: the old data, zero-extended; fetch: the 8-byte word at gva & ~7; get: the
  // register.
  std::uint64_t value = 0;
  Path path[2];  // kAccess only; [1] only if the access crosses a page
  // In OutcomeStream::extra. kDirtyGet: sorted gfns; kPmlGet: gpas as logged.
  std::uint32_t extra_begin = 0, extra_count = 0;
};

inline constexpr std::uint32_t kNeverBegun = ~std::uint32_t{0};

struct OutcomeStream {
  std::vector<Outcome> steps;  // exactly one a program step
  std::vector<std::uint64_t> extra;
  // Steps in the order in which they ended; empty if that is their own order.
  std::vector<std::uint32_t> ended;
  // Then, by step: how many had ended when it began, kNeverBegun if it was skipped.
  std::vector<std::uint32_t> begun;
  std::string complaint_text;  // of the first complaint, for people
  void clear() {
    steps.clear(), extra.clear(), ended.clear(), begun.clear();
    complaint_text.clear();
  }
};

std::string_view name_of(OutcomeKind);
std::string_view name_of(SkipReason);
std::string_view name_of(Complaint);
// "ok gpa=0x5000 value=0x12", "#PF ec=p|w cr2=0xffff923400000000", "mmio write gpa=0x..." : the
// text of `=` lines.
std::string to_text(const Outcome&);

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_TRACE_OUTCOME_H_
