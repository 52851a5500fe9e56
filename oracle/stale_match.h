#ifndef TWINWALK_ORACLE_STALE_MATCH_H_
#define TWINWALK_ORACLE_STALE_MATCH_H_

// Finds what explains an outcome that the fresh walk does not: for each part of
// the access the fresh walk or one permitted combination of former values.

#include "oracle/observation.h"
#include "oracle/staleness.h"

namespace twinwalk::oracle {

// Whether the path that the subject shows has the A and D that a way of `part` sets: `stale`, or
// the fresh walk if that is null. Of a store from an entry on that the access itself overwrites it
// says nothing: entries are shown as they are after the step.
bool shown_bits_fit(const MachineState& state, const Observation& seen, unsigned part,
                    const std::uint64_t (&landing)[2], const StaleWalk* stale);
// Whether that way sets A or D in an entry off the present path, which no subject shows.
bool sets_unseen_bits(const Observation& seen, unsigned part, const StaleWalk& walk);

class StaleMatcher final : private StaleVisitor {
 public:
  struct Part {
    bool stale = false;  // explained by `walk`, not by the fresh walk
    StaleWalk walk;
  };

  // All must outlive the matcher.
  StaleMatcher(const MachineState& state, const Observation& seen) : state_(state), seen_(seen) {}

  // Looks for an explanation by the rules of `profile`. `ignore_windows`: as if no invalidation had
  // happened.
  bool search(Profile profile, bool ignore_windows = false);
  // The last search gave up: more former values than it looks at.
  bool too_large() const { return too_large_; }

  // After a search that found one:
  const Part& part(unsigned i) const { return parts_[i]; }
  unsigned fault_part() const { return part_; }  // of a #PF
  std::uint64_t gpa(unsigned i) const {          // of a completion
    return parts_[i].stale ? parts_[i].walk.gpa : seen_.fresh.part[i].walk.gpa;
  }

 private:
  bool visit(const StaleWalk& walk) override;
  bool search_completion();
  bool search_fault();
  bool search_from(unsigned part);
  SearchResult search_part(unsigned part);
  bool part_ok(unsigned part, std::uint64_t gpa) const;
  bool whole_ok() const;
  // The value that was loaded is what memory holds there, but for bits that may be set or not.
  bool loaded_fits() const;

  const MachineState& state_;
  const Observation& seen_;
  Part parts_[2];
  unsigned part_ = 0;  // the part that is being searched
  Profile profile_ = Profile::kKvm;
  bool ignore_windows_ = false;
  bool only_seen_bits_ =
      false;  // leave out what would set A or D in entries the subject does not show
  bool too_large_ = false;
};

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_STALE_MATCH_H_
