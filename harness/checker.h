#ifndef TWINWALK_HARNESS_CHECKER_H_
#define TWINWALK_HARNESS_CHECKER_H_

// Runs a program on a subject and says of every step whether the references allow what was seen.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "harness/linearisation.h"
#include "harness/subject.h"
#include "harness/trace/program.h"
#include "oracle/spec.h"
#include "oracle/unicorn/client.h"

namespace twinwalk {

// One verdict that is not kAgree. References are valid during the call.
struct CheckEvent {
  std::uint32_t step = 0;  // of the program
  std::uint32_t op = 0;    // of the trace
  const Step& what;
  const Outcome& got;
  const Verdict& verdict;
  // A divergence that is accepted, and by which id: of the trace's `known` lines or of a deviation.
  bool known = false;
  std::string_view known_id;
};
using CheckReport = std::function<void(const CheckEvent&)>;
// The id of the subject's known deviation that a divergence at a step of the program is, empty if
// none.
using DeviationLookup = std::function<std::string_view(std::uint32_t step, const Verdict&)>;

struct CheckResult {
  Profile profile = Profile::kKvm;  // by which it was judged
  bool executed = true;  // false: the trace `requires` what its machine lacks; nothing was run
  std::uint64_t steps = 0;
  std::uint64_t checks = 0;  // outcomes judged
  std::uint64_t agree = 0, diverge = 0, skip = 0, unspecified = 0;
  std::uint64_t known = 0;         // accepted divergences that reproduced; not in `diverge`
  std::uint64_t known_before = 0;  // of them, before `divergence`
  std::uint64_t unicorn_checks = 0, unicorn_skipped = 0;
  bool unicorn_died = false;
  std::string complaint;  // the subject's own words, if it stopped or found something wrong
  // The first divergence that is not known; kNone if there is none.
  DivergenceClass divergence = DivergenceClass::kNone;
  std::uint32_t step = 0, op = 0;
  Verb verb = Verb::kCount;
  std::string field;
  std::string_view rule;  // id of the rule broken, "" if none
};

// True if the trace's `requires` words hold for its machine: a feature's name, "mode=pae" (the
// mode in which its vCPUs start), "intel", "amd".
bool requirements_hold(const Trace& trace);

class Checker {
 public:
  // `subject` (and `unicorn`, if not null) must outlive the checker.
  explicit Checker(Subject& subject, oracle::UnicornClient* unicorn = nullptr);
  ~Checker();
  Checker(const Checker&) = delete;
  Checker& operator=(const Checker&) = delete;

  void set_unicorn(oracle::UnicornClient* unicorn) {
    unicorn_ = unicorn;
  }  // from the next check on
  // Divergences for which `lookup` has an id are known, like those that a trace accepts; so are `=`
  // lines that fail at their step. Of what a subject complains of only that it hangs can be. Words
  // of the image are asked for one by one, as of the last step.
  void accept_deviations(DeviationLookup lookup) { deviations_ = std::move(lookup); }
  Subject& subject() { return subject_; }

  // Lowers, runs and judges. `report` sees what is not kAgree, in the order of steps; verdicts on
  // expectations follow those of their step, verdicts of Unicorn and on the whole image come last.
  // An `=` line that fails at or after a step that the subject's host cannot do is skipped: it
  // speaks of a program that was not run.
  // Allocates nothing, once warm, where all agrees and the trace has no `=` lines.
  CheckResult check(const Trace& trace, const CheckReport& report = {});
  // The same for a program that is lowered already; `trace` may be null (no expectations,
  // requirements, known ids).
  CheckResult check(const Trace* trace, const Program& program, const CheckReport& report = {});

  // Of the last check.
  const Program& program() const { return *last_; }
  const OutcomeStream& outcomes() const { return outcomes_; }
  const oracle::Spec& spec() const { return spec_; }

 private:
  void judge_all(const Trace* trace, const CheckReport& report, CheckResult& result);
  void judge_interleaved(const Trace* trace, const CheckReport& report, CheckResult& result);
  void note_stores(const Op& op, const Outcome& got);
  // `got`: what the step is judged by.
  void judge_step(std::uint32_t index, const Outcome& got, const Trace* trace,
                  const CheckReport& report, CheckResult& result);
  void leave_open(std::uint32_t index, const Trace* trace, const CheckReport& report,
                  CheckResult& result);
  void complain(const Outcome& got);
  void deliver(std::uint32_t index, const Trace* trace, const CheckReport& report,
               CheckResult& result);
  void check_expectations(const Trace& trace, std::uint32_t index, std::size_t& next,
                          const CheckReport& report, CheckResult& result);
  void diverge(DivergenceClass cls, const Rule& rule, std::string_view field, std::string got,
               std::string allowed);
  void compare_images(const Trace* trace, const CheckReport& report, CheckResult& result);
  bool word_differs(std::uint64_t gpa, std::uint64_t word) const;
  void ask_unicorn(const Trace* trace, const CheckReport& report, CheckResult& result);
  void check_known(const Trace& trace, const CheckReport& report, CheckResult& result);
  void skip_expectation(std::uint32_t index, const Expectation& expectation,
                        const CheckReport& report, CheckResult& result);
  bool accept(const Trace* trace, std::string_view id);
  std::string_view accepting(const Trace* trace);

  Subject& subject_;
  oracle::UnicornClient* unicorn_;
  oracle::Spec spec_;
  std::vector<std::uint64_t> stored_;  // words, by gpa
  Lowering lowering_;
  Program program_;
  const Program* last_ = &program_;
  OutcomeStream outcomes_;
  Linearisation linearisation_;
  Verdict verdict_;
  std::vector<std::string_view> reproduced_;  // known ids
  DeviationLookup deviations_;
  SkipReason left_out_ = SkipReason::kNone;  // why the subject's host could not do a step so far
  bool left_open_ = false;  // overlapping steps of this program could not be judged to the end
  std::string deviation_;   // id of the deviation of the step being judged, empty if there is none
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_CHECKER_H_
