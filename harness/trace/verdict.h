#ifndef TWINWALK_HARNESS_TRACE_VERDICT_H_
#define TWINWALK_HARNESS_TRACE_VERDICT_H_

// What the checker says about one step.

#include <cstdint>
#include <string>
#include <string_view>

#include "harness/trace/outcome.h"

namespace twinwalk {

// By what an outcome is judged: what a shadow MMU in the manner of KVM keeps, what the manual lets
// a processor keep, or, for a shadow MMU with a processor in front of it that nobody sees into,
// both.
enum class Profile : std::uint8_t { kKvm, kArchitecture, kKvmOnProcessor };
enum class VerdictKind : std::uint8_t { kAgree, kDiverge, kSkip, kUnspecified };

// Semantic classes of divergence. The audit-*, escape, liveness and trap classes mirror Complaint.
enum class DivergenceClass : std::uint8_t {
  kNone,
  kMissedFault,
  kSpuriousFault,
  kWrongFrame,
  kWrongValue,
  kWrongErrorCode,
  kWrongFaultAddress,
  kWrongException,
  kStaleAfterFlush,  // explained only by a value that an invalidation already covered
  kAccessedDirty,
  kLostDirtyLog,
  kWrongMmio,
  kWrongRegister,
  kWrongPath,
  kWrongImage,
  kReferenceDisagreement,
  kExpectation,
  kEscape,
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
  kTableFreedInUse,
  kLiveness,
  kTrap,
  kSanitizer,
  kHang,
  kCount,
};

// The class that mirrors a complaint of the subject.
DivergenceClass class_of(Complaint complaint);

// A rule of the oracle: `id` as in oracle/rules.cc ("fresh", "stale-6", ...), with the manual's
// section title.
struct Rule {
  std::string_view id;        // short and stable
  std::string_view says;      // one sentence
  std::string_view citation;  // SDM 3A §"..." or APM 2 §"..."
};

struct Verdict {
  VerdictKind kind = VerdictKind::kAgree;
  DivergenceClass divergence = DivergenceClass::kNone;
  const Rule* rule = nullptr;  // static storage; the rule broken, or the citation of kUnspecified
  // "outcome", "value", "error-code", "cr2", "path", "dirty-log", ...; static storage.
  std::string_view field;
  std::string got, allowed;  // filled on anything but kAgree
};

std::string_view name_of(Profile);
std::string_view name_of(VerdictKind);      // "agree" ...
std::string_view name_of(DivergenceClass);  // "missed-fault" ...

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_TRACE_VERDICT_H_
