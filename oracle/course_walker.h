#ifndef TWINWALK_ORACLE_COURSE_WALKER_H_
#define TWINWALK_ORACLE_COURSE_WALKER_H_

// One walk through both dimensions, in a straight line. Between the folder's own files only: others
// call walk_course (course.h).

#include <cstdint>

#include "oracle/course.h"
#include "oracle/nested_ways.h"

namespace twinwalk::oracle::walking {

enum class Step : std::uint8_t { kGo, kEnd, kReject };

// Where a guest-physical address leads to.
struct Translation {
  std::uint64_t hpa = 0;
  Rights rights;
  bool old = false;
  Time before = kStillThere;  // what is read through it was read before that
};

// What the steps above have settled, of one part of an access.
struct Prefix {
  Rights rights;
  Time latest_begin = 0;
  Time oldest_end = kStillThere;    // of guest values
  Time oldest_upper = kStillThere;  // of those that are not the leaf
  bool old_guest = false;           // some guest value or root is a former one
  bool foreign_root = false;        // a root of another PCID: for global translations only
  bool cached_xd = false;           // XD was cached before EFER.NXE went to 0
};

class CourseWalker {
 public:
  CourseWalker(const GuestAccess& access, Chooser* chooser, Course& out, CourseNotes* notes)
      : a_(access),
        s_(*access.state),
        g_(access.state->vcpu(access.vcpu).guest),
        format_(&g_.nested().format),
        root_(g_.nested().root),
        chooser_(chooser),
        out_(out),
        notes_(notes) {}

  bool access();

  // The PDPTE registers' 32 bytes lie in one page.
  bool load(std::uint64_t gpa);

 private:
  unsigned pick(unsigned n) { return chooser_ == nullptr ? 0 : chooser_->pick(n); }
  const Machine& machine() const { return s_.machine(); }
  const AccessQuery& query() const { return *a_.context.query; }
  bool amd() const { return machine().vendor == Vendor::kAmd; }
  void note(const CourseNote& n) {
    if (notes_ != nullptr) notes_->note(n);
  }

  // --- Ends.

  Step end(OutcomeKind kind, const Rule& rule);
  Step not_defined(OutcomeKind kind, const Rule& rule);

  bool not_canonical(bool crosses, unsigned half, const bool (&legal)[2]);

  bool ends_well() const {
    return out_.kind == OutcomeKind::kOk || out_.kind == OutcomeKind::kMmio;
  }

  // Which of two faults comes first is open.
  bool both_parts();

  // --- The second dimension.

  // NPT: what is cached is tagged by ASID alone, so that of any gpa the translation below an
  // earlier nested root may still be used.
  std::uint64_t pick_nested_root();

  // Bits of a violation's qualification that mean nothing without the feature.
  std::uint64_t with_mbec(std::uint64_t bits) const {
    return format_->mbec ? bits : bits & ~eqx::kUserExecutable;
  }
  static constexpr std::uint64_t advanced() {
    return eqx::kGuestUser | eqx::kGuestWritable | eqx::kGuestNx;
  }

  Use table_use() const;

  Use final_use(const Rights& rights, bool paging) const;

  Step exit(std::uint64_t gpa, const Use& use, const Rights* rights, bool reserved, bool walked_old,
            bool combined_only);

  // Values that may have been cached from the entry at `at` in the second dimension.
  Choice choose_nested(const Memslot& slot, std::uint64_t at, unsigned level, std::uint64_t gpa,
                       bool flags, bool write, Time& combined_only);

  // Above the leaf: what a violation has left of it.
  void note_dropped(DroppedStructures& dropped, const Choice& c, unsigned level,
                    std::uint64_t gpa) const;

  // One way through the second dimension. False: these choices do not go together. Fresh: there is
  // nothing to choose.
  template <bool kFresh>
  bool walk_nested(std::uint64_t gpa, const Use& use, NestedWay& w);

  // Which rights of a way can be told from others'.
  std::uint64_t telling_rights(const Use& use, const NestedWay& w) const;

  Step translate(std::uint64_t gpa, const Use& use, Translation& to);

  Step follow(std::uint64_t gpa, const Use& use, const NestedWay& w, Translation& to);

  Step set_flags(const NestedWay& w);

  // SDM 3C §"Page-Modification Logging": with the log full the exit comes before A or D is set.
  Step log(std::uint64_t gpa, const NestedWay& w);

  // --- The guest's own dimension.

  struct Pending {
    std::uint64_t gpa = 0;
    Rights rights;
    bool old = false;  // by a former translation
  };

  Step walk_part(unsigned part);

  // Which of the roots that may be loaded is.
  void pick_loaded();
  void pick_root(WalkRoot& root, bool pge);

  Step without_paging(std::uint64_t gpa);

  Choice choose_guest(const Memslot& slot, std::uint64_t at, unsigned level, bool needs_dirty);

  // A walk through cached upper entries that ends at an entry as it is now.
  bool fault_by_structures() const;

  // Whether what led to a table whose address was violated may have been cached before, the entries
  // above being there since `above`.
  bool kept_by_structures(Time above, Time violated) const;

  Step page_fault(std::uint32_t error_code, const Rule& rule, std::uint64_t page_bytes);

  // A table of the guest outside memory.
  Step no_table(std::uint32_t error_code);

  // The processor's own update of A or D in a guest entry that EPT, without flags, does not let it
  // write.
  Step pending_exit(unsigned i);

  void set_guest_flags(bool dirty);

  Step descend(const WalkRoot& root, std::uint64_t gva, bool pge);

  // SDM 3C §"EPT Violations": without flags for EPT reading a guest entry is a read, and an update
  // of its A and D a write.
  void note_pending(std::uint64_t gpa, const Translation& to, std::uint64_t certain,
                    std::uint64_t due);

  Step leaf_reached(const Choice& c, unsigned level, std::uint64_t gva, bool pge);

  Step land(std::uint64_t gpa, bool paging);

  const GuestAccess& a_;
  const MachineState& s_;
  const GuestState& g_;
  const NestedFormat* format_;
  std::uint64_t root_;
  Chooser* chooser_;
  Chooser* inner_ = nullptr;  // of the nested walk at hand
  Course& out_;
  CourseNotes* notes_;
  std::uint64_t gva_[2] = {0, 0};
  unsigned part_ = 0;
  const GuestRoot* loaded_ = nullptr;  // in place of the one in the registers
  Prefix prefix_;
  Time local_ = 0, global_ = 0, structures_ = 0;
  const EntryRules* now_ = nullptr;     // of the root's mode: for entries walked now
  const EntryRules* cached_ = nullptr;  // and for cached ones
  Pending pending_[kMaxLevels];
  unsigned pendings_ = 0;
  std::uint64_t guest_at_[kMaxLevels], guest_due_[kMaxLevels];
  unsigned guest_count_ = 0;
};

}  // namespace twinwalk::oracle::walking

#endif  // TWINWALK_ORACLE_COURSE_WALKER_H_
