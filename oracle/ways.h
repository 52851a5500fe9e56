#ifndef TWINWALK_ORACLE_WAYS_H_
#define TWINWALK_ORACLE_WAYS_H_

// All permitted ways by which an access may have gone where it went, and what each of them sets.
// Most subjects' A and D are seen on the path that they show. An entry that is not on it (the
// access's own store took it off, or a stale translation never was on it) has the bits that every
// way sets; those that only some ways set stay open.

#include <array>
#include <cstdint>

#include "oracle/observation.h"
#include "oracle/staleness.h"

namespace twinwalk::oracle {

class Ways final : private StaleVisitor {
 public:
  // All must outlive it.
  Ways(const MachineState& state, const Observation& seen) : state_(state), seen_(seen) {}

  // The ways of a completed access whose parts went to `landing`, and those by which it may have
  // been begun before.
  void of_completion(const std::uint64_t (&landing)[2]);
  // Those alone by which the access may have been begun before.
  void of_earlier_beginnings();
  // The stale ways to the #PF that was seen, in `part`; and, of an access in two parts, all ways of
  // the other, which may have been done by then. Where the access may have been begun more than
  // once (an interrupt or an exit between its parts, or before a device answered) also those by
  // which an earlier beginning got further.
  void of_fault(unsigned part);

  // Whether every part has one. False where A or D is missing that every way sets.
  bool found() const { return found_; }

  bool may_set(std::uint64_t entry_gpa, std::uint64_t bits) const;  // any of them
  bool may_set_all(std::uint64_t entry_gpa, std::uint64_t bits) const;
  // Calls f(gpa, may, must) for every entry that some way sets A or D in: in some, in each.
  template <class F>
  void for_each(F&& f) const {
    for (unsigned i = 0; i < all_.count; ++i)
      f(all_.words[i].gpa, all_.words[i].may, all_.words[i].must);
  }

 private:
  struct Word {
    std::uint64_t gpa = 0, may = 0, must = 0;
    std::uint64_t here = 0;  // set by the way that is being looked at
  };
  // Far more than the words that ways to one place set; what is beyond is left out.
  using Words = std::array<Word, 32>;
  struct Set {
    Words words;
    unsigned count = 0;
    Word* at(const Memslots& slots, std::uint64_t gpa);
  };

  bool visit(const StaleWalk& walk) override;
  void search(unsigned part);
  void of_part_unseen(unsigned part);
  bool restarts() const;
  bool walks_again() const;
  void add_fresh_way();
  void add_walk_beside();
  void begin_way();
  void sets(std::uint64_t entry_gpa, std::uint64_t bits);
  void end_way();
  void end_part();

  const MachineState& state_;
  const Observation& seen_;
  std::uint64_t landing_[2] = {0, 0};
  unsigned part_ = 0, ways_ = 0;
  bool found_ = true;
  bool anywhere_ = false;  // of a part of which nothing is seen: wherever it went
  Set of_part_, all_;
};

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_WAYS_H_
