#ifndef TWINWALK_HARNESS_FUZZING_BISECT_H_
#define TWINWALK_HARNESS_FUZZING_BISECT_H_

// The verb `bisect`: the first revision of the core that shows a trace's divergence. Each revision
// of mmu_core/ is built with this tree's everything else, so that one judge looks at all of them.

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace twinwalk::fuzz {

enum class Judged : char { kGood, kBad, kCannotTell };

// The search itself, over revisions in the order in which they came: all that are bad come after
// all that are good. Precondition: the last one is bad.
class Bisection {
 public:
  // `first_good`: the one before the first is known to be good, without being asked; otherwise the
  // search goes back from the last in growing steps until one is good.
  Bisection(std::size_t revisions, bool first_good, std::function<Judged(std::size_t)> judge);
  // The first bad one; and those before it that nobody could tell of, if it might be one of them.
  // Empty if none is good, as far as one can tell.
  std::vector<std::size_t> run();
  std::size_t oldest_bad() const { return bad_; }
  std::size_t asked() const { return asked_; }

 private:
  Judged ask(std::size_t revision);
  bool find_good();
  // The untold revision nearest to the middle between the two; `bad_` if there is none.
  std::size_t middle() const;

  std::function<Judged(std::size_t)> judge_;
  std::vector<char> untold_;  // 1: nobody could tell
  std::size_t good_ = 0;      // index after the last one that is known to be good
  std::size_t bad_, asked_ = 0;
  bool first_good_;
};

struct BisectOptions {
  std::string trace;         // path of a .walk, or binary
  std::string good;          // a revision; empty: found by going back
  std::string bad = "HEAD";  // a revision
  std::string source;        // the repository; empty: this tree's
  std::string build;         // build folder; empty: build/bisect beside this program's build
  bool json = false;
};

// Progress goes to standard error, the revision to standard output. 0: there is one. 1: it is one
// of several that could not be built, or all are bad. 2: bad options, no repository, or the trace
// agrees at `bad`.
int run_bisect(const BisectOptions& options);

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_BISECT_H_
