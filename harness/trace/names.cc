// Names of everything that the trace vocabulary enumerates, and the few facts
// of its headers that are not constants.

#include <array>
#include <cstddef>

#include "harness/trace/machine.h"
#include "harness/trace/op.h"
#include "harness/trace/outcome.h"
#include "harness/trace/verdict.h"

namespace twinwalk {
namespace {

template <typename Enum, std::size_t N>
std::string_view pick(const std::array<std::string_view, N>& names, Enum e) {
  const auto i = static_cast<std::size_t>(e);
  return i < N ? names[i] : std::string_view("?");
}

constexpr std::array<std::string_view, static_cast<std::size_t>(Verb::kCount)> kVerbs = {
    "cpu",           "mov",         "map",      "write",      "access",      "invlpg",
    "invpcid",       "init",        "smm",      "slot-add",   "slot-delete", "slot-move",
    "slot-flags",    "invalidate",  "remap",    "protect",    "age",         "huge-split",
    "huge-collapse", "dirty-get",   "reclaim",  "zap-all",    "quota",       "fail-alloc",
    "async-done",    "npt-map",     "vm-enter", "vm-exit",    "invept",      "invvpid",
    "get",           "invlpga",     "sregs",    "cpuid",      "new-vcpu",    "ept-map",
    "pml-get",       "dirty-clear", "prefault", "nx-recover", "track",       "attributes"};
static_assert(!kVerbs.back().empty());

constexpr std::array<std::string_view, static_cast<std::size_t>(Point::kCount)> kPoints = {
    "none",          "after-walk",     "after-frame",  "before-install",
    "after-install", "notifier-begun", "slot-swapped", "before-flush",
    "after-unlock",  "frozen",         "mid-walk"};
static_assert(!kPoints.back().empty());

constexpr std::array<std::string_view, static_cast<std::size_t>(DivergenceClass::kCount)> kClasses =
    {"none",
     "missed-fault",
     "spurious-fault",
     "wrong-frame",
     "wrong-value",
     "wrong-error-code",
     "wrong-fault-address",
     "wrong-exception",
     "stale-after-flush",
     "accessed-dirty",
     "lost-dirty-log",
     "wrong-mmio",
     "wrong-register",
     "wrong-path",
     "wrong-image",
     "reference-disagreement",
     "expectation",
     "escape",
     "audit-rmap",
     "audit-parent",
     "audit-unsync",
     "audit-hash",
     "audit-count",
     "audit-role",
     "audit-content",
     "audit-reserved",
     "audit-writable",
     "audit-notifier",
     "audit-dirty",
     "audit-leak",
     "table-freed-in-use",
     "liveness",
     "trap",
     "sanitizer",
     "hang"};
static_assert(!kClasses.back().empty());

constexpr std::array<std::string_view, 17> kComplaints = {
    "none",          "escape",         "audit-rmap",         "audit-parent",
    "audit-unsync",  "audit-hash",     "audit-count",        "audit-role",
    "audit-content", "audit-reserved", "audit-writable",     "audit-notifier",
    "audit-dirty",   "audit-leak",     "table-freed-in-use", "liveness",
    "trap"};

}  // namespace

std::string_view name_of(Vendor v) {
  return pick(std::array<std::string_view, 2>{"intel", "amd"}, v);
}
std::string_view name_of(Dimension d) {
  return pick(std::array<std::string_view, 4>{"shadow", "ept", "npt", "bare"}, d);
}
std::string_view name_of(Nesting n) {
  return pick(std::array<std::string_view, 4>{"none", "ept", "npt", "shadow"}, n);
}
std::string_view name_of(Mode m) {
  return pick(std::array<std::string_view, 5>{"none", "32-bit", "pae", "4-level", "5-level"}, m);
}
std::string_view name_of(TlbPolicy t) {
  return pick(std::array<std::string_view, 3>{"stale", "small", "fresh"}, t);
}

std::string_view name_of(Verb v) { return pick(kVerbs, v); }
std::string_view name_of(AccessKind k) {
  return pick(std::array<std::string_view, 4>{"read", "write", "fetch", "rmw"}, k);
}
std::string_view name_of(Writer w) {
  return pick(std::array<std::string_view, 2>{"guest", "host"}, w);
}
std::string_view name_of(Reg r) {
  return pick(std::array<std::string_view, kRegs>{"cr0", "cr3", "cr4", "efer", "pkru", "cpl", "ac"},
              r);
}
std::string_view name_of(Point p) { return pick(kPoints, p); }

std::string_view name_of(OutcomeKind k) {
  return pick(std::array<std::string_view, 15>{"done", "ok", "#PF", "#GP", "#SS", "mmio", "refused",
                                               "skip", "#UD", "ept-violation", "ept-misconfig",
                                               "#NPF", "pml-full", "vm-fail", "memory-fault"},
              k);
}
std::string_view name_of(SkipReason r) {
  return pick(std::array<std::string_view, 9>{"none", "mode-not-supported", "nested-not-supported",
                                              "interleaving-not-supported", "verb-not-supported",
                                              "feature-not-supported", "vcpu-not-there",
                                              "subject-stopped", "host-lacks-feature"},
              r);
}
std::string_view name_of(Complaint c) { return pick(kComplaints, c); }

std::string_view name_of(Profile p) {
  return pick(std::array<std::string_view, 3>{"kvm", "architecture", "kvm-on-processor"}, p);
}
std::string_view name_of(VerdictKind v) {
  return pick(std::array<std::string_view, 4>{"agree", "diverge", "skip", "unspecified"}, v);
}
std::string_view name_of(DivergenceClass c) { return pick(kClasses, c); }

Registers initial_registers(const Machine& machine) {
  Registers r;
  const Mode mode = machine.mode;
  const bool long_mode = mode == Mode::k4Level || mode == Mode::k5Level;
  if (mode == Mode::kNone) r.cr0 &= ~cr0::kPg;
  r.cr4 = 0;
  if (mode == Mode::k32Bit && machine.has(feature::kPse)) r.cr4 |= cr4::kPse;
  if (mode == Mode::kPae || long_mode) r.cr4 |= cr4::kPae;
  if (mode == Mode::k5Level) r.cr4 |= cr4::kLa57;
  r.efer = long_mode ? efer::kLme | efer::kLma : 0;
  if (machine.has(feature::kNx)) r.efer |= efer::kNxe;
  return r;
}

Mode mode_of(std::uint64_t cr0, std::uint64_t cr4, std::uint64_t efer) {
  if (!(cr0 & cr0::kPg)) return Mode::kNone;
  if (!(cr4 & cr4::kPae)) return Mode::k32Bit;
  if (!(efer & efer::kLme)) return Mode::kPae;
  return cr4 & cr4::kLa57 ? Mode::k5Level : Mode::k4Level;
}

std::uint64_t value_of(const Registers& r, Reg reg) {
  switch (reg) {
    case Reg::kCr0:
      return r.cr0;
    case Reg::kCr3:
      return r.cr3;
    case Reg::kCr4:
      return r.cr4;
    case Reg::kEfer:
      return r.efer;
    case Reg::kPkru:
      return r.pkru;
    case Reg::kCpl:
      return r.cpl;
    case Reg::kAc:
      return r.ac ? 1 : 0;
  }
  return 0;
}

void Trace::clear() {
  machine = Machine{};
  ops.clear();
  requires_line.clear();
  known.clear();
  comments.clear();
  expectations.clear();
}

DivergenceClass class_of(Complaint complaint) {
  switch (complaint) {
    case Complaint::kNone:
      return DivergenceClass::kNone;
    case Complaint::kEscape:
      return DivergenceClass::kEscape;
    case Complaint::kAuditRmap:
      return DivergenceClass::kAuditRmap;
    case Complaint::kAuditParent:
      return DivergenceClass::kAuditParent;
    case Complaint::kAuditUnsync:
      return DivergenceClass::kAuditUnsync;
    case Complaint::kAuditHash:
      return DivergenceClass::kAuditHash;
    case Complaint::kAuditCount:
      return DivergenceClass::kAuditCount;
    case Complaint::kAuditRole:
      return DivergenceClass::kAuditRole;
    case Complaint::kAuditContent:
      return DivergenceClass::kAuditContent;
    case Complaint::kAuditReserved:
      return DivergenceClass::kAuditReserved;
    case Complaint::kAuditWritable:
      return DivergenceClass::kAuditWritable;
    case Complaint::kAuditNotifier:
      return DivergenceClass::kAuditNotifier;
    case Complaint::kAuditDirty:
      return DivergenceClass::kAuditDirty;
    case Complaint::kAuditLeak:
      return DivergenceClass::kAuditLeak;
    case Complaint::kTableFreedInUse:
      return DivergenceClass::kTableFreedInUse;
    case Complaint::kLiveness:
      return DivergenceClass::kLiveness;
    case Complaint::kTrap:
      return DivergenceClass::kTrap;
  }
  return DivergenceClass::kTrap;
}

}  // namespace twinwalk
