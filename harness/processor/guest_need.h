#ifndef TWINWALK_HARNESS_PROCESSOR_GUEST_NEED_H_
#define TWINWALK_HARNESS_PROCESSOR_GUEST_NEED_H_

// What an access asks of a translation, by the guest's registers of now. SDM 3A §"Determination of
// Access Rights", §"Protection Keys" and §"Page-Fault Exceptions".

#include "harness/processor/guest_format.h"
#include "harness/processor/processor.h"

namespace twinwalk::processor {

struct GuestNeed {
  bool write, read, fetch, user;
  std::uint32_t code;  // the error code's W, U, I

  GuestNeed(const Registers& r, GuestMode mode, const Access& a)
      : write(a.kind == AccessKind::kWrite || a.kind == AccessKind::kRmw),
        read(a.kind == AccessKind::kRead || a.kind == AccessKind::kRmw),
        fetch(a.kind == AccessKind::kFetch),
        user(r.cpl == 3 && !a.implicit),
        nx_(r.efer & efer::kNxe),
        wp_(user || (r.cr0 & cr0::kWp)),
        smep_(r.cr4 & cr4::kSmep),
        smap_((r.cr4 & cr4::kSmap) && !user && (a.implicit || !r.ac)),
        keys_((r.cr4 & cr4::kPke) && !kGuestFormats[mode].is_legacy() && !fetch),
        pkru_(r.pkru) {
    // I tells a fetch only where one can be forbidden.
    const bool tells = smep_ || ((r.cr4 & cr4::kPae) && (r.efer & efer::kNxe));
    code = (write ? 2u : 0u) | (user ? 4u : 0u) | (fetch && tells ? 16u : 0u);
  }

  // The error code of a violation, 0 if the access may go on.
  std::uint32_t violation(const Rights& rights, std::uint8_t key) const {
    bool bad = user && !rights.user;
    if (fetch) {
      bad |= (nx_ && !rights.execute) || (!user && smep_ && rights.user);
    } else {
      bad |= (write && wp_ && !rights.write) || (smap_ && rights.user);
    }
    bool key_bad = false;
    if (keys_ && rights.user) {
      const unsigned pair = pkru_ >> (2 * key) & 3;  // bit 0 access disable, bit 1 write disable
      key_bad = (pair & 1) || (write && wp_ && (pair & 2));
    }
    return bad || key_bad ? 1u | code | (key_bad ? 32u : 0u) : 0;
  }

 private:
  bool nx_, wp_, smep_, smap_, keys_;
  std::uint32_t pkru_;
};

}  // namespace twinwalk::processor

#endif  // TWINWALK_HARNESS_PROCESSOR_GUEST_NEED_H_
