#include "fuzzers/diverged.h"

#include <cstdio>
#include <cstdlib>
#include <string>

// One frame a class. The message differs as well, so that the linker cannot fold equal bodies.
#define TWINWALK_DIVERGED(name)                                      \
  [[noreturn, gnu::noinline]] void diverged_##name() {               \
    std::fputs("twinwalk: divergence of class " #name "\n", stderr); \
    std::abort();                                                    \
  }

namespace twinwalk::fuzz {
namespace {

TWINWALK_DIVERGED(missed_fault)
TWINWALK_DIVERGED(spurious_fault)
TWINWALK_DIVERGED(wrong_frame)
TWINWALK_DIVERGED(wrong_value)
TWINWALK_DIVERGED(wrong_error_code)
TWINWALK_DIVERGED(wrong_fault_address)
TWINWALK_DIVERGED(wrong_exception)
TWINWALK_DIVERGED(stale_after_flush)
TWINWALK_DIVERGED(accessed_dirty)
TWINWALK_DIVERGED(lost_dirty_log)
TWINWALK_DIVERGED(wrong_mmio)
TWINWALK_DIVERGED(wrong_register)
TWINWALK_DIVERGED(wrong_path)
TWINWALK_DIVERGED(wrong_image)
TWINWALK_DIVERGED(reference_disagreement)
TWINWALK_DIVERGED(expectation)
TWINWALK_DIVERGED(escape)
TWINWALK_DIVERGED(audit_rmap)
TWINWALK_DIVERGED(audit_parent)
TWINWALK_DIVERGED(audit_unsync)
TWINWALK_DIVERGED(audit_hash)
TWINWALK_DIVERGED(audit_count)
TWINWALK_DIVERGED(audit_role)
TWINWALK_DIVERGED(audit_content)
TWINWALK_DIVERGED(audit_reserved)
TWINWALK_DIVERGED(audit_writable)
TWINWALK_DIVERGED(audit_notifier)
TWINWALK_DIVERGED(audit_dirty)
TWINWALK_DIVERGED(audit_leak)
TWINWALK_DIVERGED(table_freed_in_use)
TWINWALK_DIVERGED(liveness)
TWINWALK_DIVERGED(trap)
TWINWALK_DIVERGED(sanitizer)
TWINWALK_DIVERGED(hang)

}  // namespace

void abort_in_frame_of(DivergenceClass divergence) {
  switch (divergence) {
    case DivergenceClass::kMissedFault:
      diverged_missed_fault();
    case DivergenceClass::kSpuriousFault:
      diverged_spurious_fault();
    case DivergenceClass::kWrongFrame:
      diverged_wrong_frame();
    case DivergenceClass::kWrongValue:
      diverged_wrong_value();
    case DivergenceClass::kWrongErrorCode:
      diverged_wrong_error_code();
    case DivergenceClass::kWrongFaultAddress:
      diverged_wrong_fault_address();
    case DivergenceClass::kWrongException:
      diverged_wrong_exception();
    case DivergenceClass::kStaleAfterFlush:
      diverged_stale_after_flush();
    case DivergenceClass::kAccessedDirty:
      diverged_accessed_dirty();
    case DivergenceClass::kLostDirtyLog:
      diverged_lost_dirty_log();
    case DivergenceClass::kWrongMmio:
      diverged_wrong_mmio();
    case DivergenceClass::kWrongRegister:
      diverged_wrong_register();
    case DivergenceClass::kWrongPath:
      diverged_wrong_path();
    case DivergenceClass::kWrongImage:
      diverged_wrong_image();
    case DivergenceClass::kReferenceDisagreement:
      diverged_reference_disagreement();
    case DivergenceClass::kExpectation:
      diverged_expectation();
    case DivergenceClass::kEscape:
      diverged_escape();
    case DivergenceClass::kAuditRmap:
      diverged_audit_rmap();
    case DivergenceClass::kAuditParent:
      diverged_audit_parent();
    case DivergenceClass::kAuditUnsync:
      diverged_audit_unsync();
    case DivergenceClass::kAuditHash:
      diverged_audit_hash();
    case DivergenceClass::kAuditCount:
      diverged_audit_count();
    case DivergenceClass::kAuditRole:
      diverged_audit_role();
    case DivergenceClass::kAuditContent:
      diverged_audit_content();
    case DivergenceClass::kAuditReserved:
      diverged_audit_reserved();
    case DivergenceClass::kAuditWritable:
      diverged_audit_writable();
    case DivergenceClass::kAuditNotifier:
      diverged_audit_notifier();
    case DivergenceClass::kAuditDirty:
      diverged_audit_dirty();
    case DivergenceClass::kAuditLeak:
      diverged_audit_leak();
    case DivergenceClass::kTableFreedInUse:
      diverged_table_freed_in_use();
    case DivergenceClass::kLiveness:
      diverged_liveness();
    case DivergenceClass::kTrap:
      diverged_trap();
    case DivergenceClass::kSanitizer:
      diverged_sanitizer();
    case DivergenceClass::kHang:
      diverged_hang();
    case DivergenceClass::kNone:
    case DivergenceClass::kCount:
      break;
  }
  std::abort();
}

}  // namespace twinwalk::fuzz
