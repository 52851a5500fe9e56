#ifndef TWINWALK_HARNESS_LINEARISATION_H_
#define TWINWALK_HARNESS_LINEARISATION_H_

// In which order interleaved steps are judged. A step and those that ran inside it overlap: each
// counts as done at some moment between its begin and its end, and no one saw at which. So orders
// are tried, that in which they ended first, until the reference has nothing against one of them.

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
  // Tells the reference what is under way when the step at that place in the order is judged. Call
  // it before each, in turn.
  void prepare(const Program& program, std::size_t at, oracle::Spec& spec) const;
  // Where the best order that was found first diverges, if that is among overlapping steps: their
  // moments are not all that decides (an access is several), so from there on nothing is judged.
  // The number of steps if there is no such place.
  std::size_t doubtful_from() const { return doubtful_from_; }

 private:
  struct Group {
    std::uint32_t outer, end;          // of the program's steps
    std::vector<std::uint32_t> inner;  // in the order in which they ended
    unsigned natural = 0;              // how many of them ended before the outer one
    unsigned tried = 0;                // which alternative is being tried
    unsigned before() const;           // inner steps before the outer one, in this alternative
  };
  void make_groups(const Program& program, const OutcomeStream& outcomes);
  void make_order(std::size_t steps);
  std::size_t first_divergence(const Program& program, const OutcomeStream& outcomes,
                               oracle::Spec& spec, Profile profile);
  bool next_alternative(std::uint32_t diverged);
  const Group* group_of(std::uint32_t step) const;

  std::vector<Group> groups_;
  std::vector<std::uint32_t> order_;
  std::size_t doubtful_from_ = 0;
  Verdict verdict_;
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_LINEARISATION_H_
