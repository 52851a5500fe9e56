#ifndef TWINWALK_HARNESS_LINEARISATION_H_
#define TWINWALK_HARNESS_LINEARISATION_H_

// In which order interleaved steps are judged. Of steps that overlap each counts as done at some
// moment between its begin and its end, and no one saw at which. So orders are tried, that in which
// they ended first, until the reference has nothing against one of them. Whoever ended before
// another began comes before it in all of them.
//
//   outer    ├──────────────────────────●──────┤ path
//   block a     ├──●──┤ path  ├──●──┤ path
//   block b        ├──────────────●────┤ path
//
// The entries that an access shows (its path) were read when it ended, which may be after moments
// of others that come later in the order: such a path is compared then, not with its access.

#include <cstdint>
#include <functional>
#include <vector>

#include "harness/trace/outcome.h"
#include "harness/trace/program.h"
#include "harness/trace/verdict.h"
#include "oracle/spec.h"

namespace twinwalk {

class Linearisation {
 public:
  // Most orders of a whole program that are tried.
  static constexpr unsigned kMostOrders = 200;

  // Leaves the order in `order()`: one that agrees, or else that in which the steps ended. Uses the
  // reference for that. Precondition: `outcomes.ended` is not empty.
  // `holds`: what the reference must satisfy at the end.
  void find(const Program& program, const OutcomeStream& outcomes, oracle::Spec& spec,
            Profile profile, const std::function<bool()>& holds);

  const std::vector<std::uint32_t>& order() const { return order_; }
  // To be called for each place in the order, in turn. Tells the reference what is under way when
  // the step there is judged, and says what that step is judged by: what was seen of it, without
  // its path if that is compared later.
  Outcome prepare(const Program& program, const OutcomeStream& outcomes, std::size_t at,
                  oracle::Spec& spec);
  // And when it has been judged: looks at the paths that are due. False: one fits nowhere.
  bool settle(const Program& program, const OutcomeStream& outcomes, std::size_t at,
              oracle::Spec& spec);
  // Where the best order that was found first diverges, if that is among overlapping steps, or
  // after some of which one was a store in two parts: their moments are not all that decides (an
  // access is several), so from there on nothing is judged.
  // The number of steps if there is no such place.
  std::size_t doubtful_from() const { return doubtful_from_; }

 private:
  // Steps that may overlap: an outer one and those of its blocks.
  struct Group {
    std::uint32_t outer, end;            // of the program's steps
    std::vector<std::uint32_t> natural;  // in the order in which they ended
    // By place: which of the steps that could come next does, and how many could.
    std::vector<std::uint32_t> taken, of;
  };
  // When a path can have been read: once all who ended before that are done, and before any who
  // began after it. Places in the order.
  struct Reading {
    std::uint32_t step = 0;
    std::size_t from = 0, to = 0;  // compared after one of the places [from, to)
  };

  void make_groups(const Program& program, const OutcomeStream& outcomes);
  void make_order(std::size_t steps);
  void place(Group& group);
  // `a` ended before `b` began.
  bool precedes(std::uint32_t a, std::uint32_t b) const { return ended_[a] < begun_[b]; }
  Reading reading_of(const Group& group, std::size_t at) const;
  bool is_late(std::uint32_t step) const;
  std::size_t first_divergence(const Program& program, const OutcomeStream& outcomes,
                               oracle::Spec& spec, Profile profile);
  bool read_later(std::size_t diverged);
  bool next_alternative(std::size_t diverged);
  const Group* group_of(std::uint32_t step) const;
  // Of some steps that overlapped before that place one moment does not say all.
  bool several_moments_before(const Program& program, std::size_t place) const;

  std::vector<Group> groups_;
  std::vector<std::uint32_t> order_;
  // By step: its place among those that ended, and how many had ended when it began.
  std::vector<std::uint32_t> ended_, begun_;
  std::vector<std::uint32_t> late_;  // steps whose path is compared later though it need not be
  std::vector<Reading> pending_;
  std::size_t doubtful_from_ = 0;
  Verdict verdict_;
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_LINEARISATION_H_
