#include "oracle/walk.h"

namespace twinwalk::oracle {

std::uint32_t attempt_bits(const Controls& c, AccessKind kind) {
  std::uint32_t bits = 0;
  if (stores(kind)) bits |= pfec::kW;
  if (c.user_mode) bits |= pfec::kU;
  // 4-level paging implies CR4.PAE=1, so NXE alone decides beside SMEP.
  if (kind == AccessKind::kFetch && (c.smep || c.nxe)) bits |= pfec::kI;
  return bits;
}

RightsCheck check_rights(const Controls& c, AccessKind kind, const Rights& rights) {
  const Needs needs = needs_of(c, kind);
  bool key_violation = false;
  if (needs.keys && rights.user()) {
    const std::uint32_t key = c.pkru >> (2 * rights.key) & 3;
    const bool access_disabled = key & 1, write_disabled = key & 2;
    key_violation = access_disabled || (write_disabled && stores(kind) && (c.user_mode || c.wp));
  }
  if (needs.met_by(rights) && !key_violation) return {};
  return {false, pfec::kP | attempt_bits(c, kind) | (key_violation ? pfec::kPk : 0)};
}

}  // namespace twinwalk::oracle
