#ifndef TWINWALK_ORACLE_SECOND_DIMENSION_H_
#define TWINWALK_ORACLE_SECOND_DIMENSION_H_

// What a vCPU of a bare machine is and was in guest mode: which second dimension it runs on, what
// of it could have been cached and when that was last dropped, and the page-modification log.
// SDM 3C §"Caching Translation Information" of the chapter on VMX support for address translation;
// APM 2 §"TLB Management".
//
//   guest-physical mapping   by EP4TA                 gpa ──► hpa: what INVEPT and violations drop
//   combined mapping         by VPID, PCID, EP4TA     gva ──► hpa: those, INVVPID, and what the
//                                                     guest's own invalidations drop
//   NPT: both by ASID alone, not by nCR3: what TLB_CONTROL and INVLPGA drop

#include <cstdint>
#include <vector>

#include "harness/trace/machine.h"
#include "harness/trace/verdict.h"
#include "oracle/history.h"
#include "oracle/nested_format.h"

namespace twinwalk::oracle {

// The second dimension that a guest runs on.
struct Nested {
  std::uint64_t root = 0;  // address of the root table: EP4TA, nCR3
  NestedFormat format;
};

// Where a guest's combined mappings are kept. `ep4ta` is 0 with NPT, whose tag is the ASID alone.
struct GuestTag {
  unsigned vpid = 0, pcid = 0;
  std::uint64_t ep4ta = 0;
};

// One invalidation. What is not named is meant whole.
struct Drop {
  static constexpr std::uint64_t kAny = ~std::uint64_t{0};
  enum class What : std::uint8_t {
    kCombined,       // translations and paging-structure caches
    kStructures,     // of combined mappings the paging-structure caches alone
    kGuestPhysical,  // of a gpa, or all
  };
  Time time = 0;
  const Rule* rule = nullptr;
  What what = What::kCombined;
  std::uint64_t vpid = kAny, pcid = kAny, ep4ta = kAny;
  std::uint64_t page = 0, bytes = 0;  // bytes 0: every address
  bool keeps_globals = false;
  // A fault: of a global translation only its use under that PCID ends.
  bool globals_of_pcid_only = false;
  std::uint64_t except_vpid = kAny;

  bool covers_address(std::uint64_t address) const {
    return bytes == 0 || (address & ~(bytes - 1)) == (page & ~(bytes - 1));
  }
};

// So many other roots at most may be loaded instead of one.
inline constexpr unsigned kMostLoaded = 7;
// A guest root that was in use under a tag during [begin, end).
struct GuestRoot {
  Root root;
  GuestTag tag;
  Time begin = 0, end = 0;  // end: kStillThere while it is loaded
  bool perhaps = false;     // loaded, or another one was: nobody was shown which
};
// NPT: a nested root that was in use under an ASID.
struct NestedRoot {
  std::uint64_t root = 0;
  unsigned asid = 0;
  Time begin = 0, end = 0;
};
// EPT: when an EP4TA was last used without A and D flags.
struct WithoutFlags {
  std::uint64_t ep4ta = 0;
  Time until = 0;
};

// An address that was logged, or may have been.
struct PmlEntry {
  std::uint64_t gpa = 0;
  bool certain = true;
};
inline constexpr unsigned kPmlEntries = 512;

class GuestState {
 public:
  void reset();

  bool active() const { return active_; }
  const Nested& nested() const { return nested_; }
  unsigned vpid() const { return vpid_; }
  bool ept() const { return nested_.format.ept; }
  GuestTag tag(unsigned pcid) const { return {vpid_, pcid, ept() ? nested_.root : 0}; }

  // VM entry and exit, at time `now`; `root` is what the guest's registers say. With VPID 0 (VPIDs
  // not enabled) both drop its mappings.
  void enter(const Nested& nested, unsigned vpid, const Root& root, unsigned pcid, Time now);
  void exit(Time now);
  // An exit that the next access ends by entering again.
  void leave_and_return(Time now);

  void load_root(const Root& root, unsigned pcid, Time now);
  // It may have been loaded instead of the one that load_root was just given: PDPTE registers, read
  // through one of several translations.
  void load_root_perhaps(const Root& root, unsigned pcid, Time now);
  bool knows_root() const;
  // Of the roots that may be loaded only those in `used` are: bit 0 stands for load_root's, bit i
  // for the i-th of the others. The one that takes its place, if another must.
  const Root* settle_root(unsigned used);
  void drop(const Drop& d) { drops_.push_back(d); }

  // The latest invalidation that covers a translation of gva for `tag`, or a global one.
  Cover translation(const GuestTag& tag, std::uint64_t gva) const;
  Cover global_translation(const GuestTag& tag, std::uint64_t gva) const;
  // The same for its paging-structure caches.
  Cover structures(const GuestTag& tag, std::uint64_t gva) const;
  // Of guest-physical mappings: INVEPT; a violation at that gpa.
  Cover guest_physical(const GuestTag& tag) const;
  Cover violation(const GuestTag& tag, std::uint64_t gpa) const {
    return violation_within(tag, gpa, kPageBytes);
  }
  // The latest violation at any gpa of those `bytes` around that one: it drops the paging-structure
  // entry for all of them.
  Cover violation_within(const GuestTag& tag, std::uint64_t gpa, std::uint64_t bytes) const;

  const std::vector<GuestRoot>& roots() const { return roots_; }
  // When the second dimension was first used: EPT by its EP4TA, NPT by root and ASID.
  Time first_use(const GuestTag& tag, std::uint64_t root) const;
  const std::vector<NestedRoot>& nested_roots() const { return nested_roots_; }
  // EPT: when this EP4TA was last used without A and D flags; 0 = never.
  Time without_flags(std::uint64_t ep4ta) const;

  std::vector<PmlEntry> log;
  unsigned certain_in_log() const;

 private:
  static bool covers(const Drop& d, const GuestTag& tag, std::uint64_t gva);

  bool active_ = false;
  Nested nested_;
  unsigned vpid_ = 0;
  std::vector<Drop> drops_;
  std::vector<GuestRoot> roots_;
  std::vector<NestedRoot> nested_roots_;
  std::vector<WithoutFlags> without_flags_;
};

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_SECOND_DIMENSION_H_
