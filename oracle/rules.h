#ifndef TWINWALK_ORACLE_RULES_H_
#define TWINWALK_ORACLE_RULES_H_

// Every rule that a verdict can name: one sentence and where the manual says it.
// Numbered rules are those of permitted staleness and of the virtualised machine.

#include <span>

#include "harness/trace/verdict.h"

namespace twinwalk::oracle::rules {

// Fresh walk.
extern const Rule kFresh, kPresent, kReserved, kRights, kWriteProtect, kSmep, kSmap,
    kProtectionKeys, kNoExecute, kErrorCode, kFaultAddress, kCanonical, kCrossing, kAccessed,
    kDirty, kAdOnFault, kAdKept, kPath, kData, kWrap, kPdpte, kPdpteAmd;
// Registers and invalidations.
extern const Rule kMovCr, kMovCr32, kEfer, kEferAmd, kSregs, kInvpcid, kMode, kSmm, kInit, kCpuid,
    kNewVcpu, kInvlpga, kGet;
// Permitted staleness, by number.
extern const Rule kStale1, kStale2, kStale3, kStale4, kStale5, kStale6, kStale7, kStale8, kStale9,
    kStale10, kStale11, kStale12, kStale13, kStale14;
// The second dimension.
extern const Rule kEptPresent, kEptMisconfig, kEptRights, kEptQualification, kEptTables, kEptp,
    kGpaWidth, kTdpTags, kTdpStale, kTdpNothing, kVpid, kInvept, kInvvpid, kPml, kNpt, kNptRights,
    kNptTables, kNptReserved, kTlbControl, kVmrun;
// The virtualised machine.
extern const Rule kVirtual25, kVirtual26, kVirtual27, kVirtual28, kVirtual29, kVirtual30,
    kVirtual31, kVirtual32, kVirtual33, kProfileKvm, kHostRequest, kPrivate, kIdentityMap,
    kTableMmio, kTableReadOnly, kOwnChecks;

// All of them, in the order of the README's table.
std::span<const Rule* const> all();
// The rule with that id, or nullptr.
const Rule* find(std::string_view id);

}  // namespace twinwalk::oracle::rules

#endif  // TWINWALK_ORACLE_RULES_H_
