#include "harness/checker.h"

#include <algorithm>
#include <cstdio>

#include "harness/expectation.h"
#include "harness/trace/stored_words.h"

namespace twinwalk {
namespace {

// Verdicts of the harness itself: not the manual's, but the trace's or the subject's own.
const Rule kOwnInvariant{"own-invariant",
                         "The subject found its own state or its host's memory to be wrong.", ""};
const Rule kExpected{"expectation", "The trace says what has to happen here.", ""};
const Rule kImage{"image", "Guest memory at the end is what the accepted stores made it.", ""};
const Rule kTwoReferences{"two-references", "Both references give the same fresh walk.", ""};
const Rule kOverlap{"overlap",
                    "Of steps that overlap the reference knows the moments, not the parts.", ""};
const Rule kKnownReproduces{"known", "An accepted divergence must still reproduce.", ""};

std::string hex(std::uint64_t value) {
  char digits[19];
  std::snprintf(digits, sizeof digits, "0x%llx", static_cast<unsigned long long>(value));
  return digits;
}

// Steps skipped because of where the subject runs, not because of what the trace's machine is.
bool is_of_host(SkipReason reason) {
  return reason == SkipReason::kHostLacksFeature || reason == SkipReason::kSubjectStopped;
}

}  // namespace

bool requirements_hold(const Trace& trace) {
  std::string_view rest = trace.requires_line;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find(' '), rest.size());
    const std::string_view word = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (word.empty()) continue;
    constexpr std::string_view kMode = "mode=";
    bool holds =
        word == name_of(trace.machine.vendor) ||
        (word.starts_with(kMode) && word.substr(kMode.size()) == name_of(trace.machine.mode));
    for (const BitName& f : feature::kNames) {
      holds |= word == f.name && trace.machine.has(static_cast<std::uint32_t>(f.mask));
    }
    if (!holds) return false;
  }
  return true;
}

Checker::Checker(Subject& subject, oracle::UnicornClient* unicorn)
    : subject_(subject), unicorn_(unicorn) {}
Checker::~Checker() = default;

CheckResult Checker::check(const Trace& trace, const CheckReport& report) {
  lowering_.lower(trace, program_);
  return check(&trace, program_, report);
}

CheckResult Checker::check(const Trace* trace, const Program& program, const CheckReport& report) {
  CheckResult result;
  result.profile = subject_.profile_for(program.machine);
  last_ = &program;
  reproduced_.clear();
  if (trace && !requirements_hold(*trace)) {
    outcomes_.clear();
    result.executed = false;
    return result;
  }
  result.steps = program.steps.size();
  stored_.clear();
  left_out_ = SkipReason::kNone;
  left_open_ = false;
  subject_.run(program, outcomes_);
  result.complaint = outcomes_.complaint_text;
  if (outcomes_.ended.empty()) {
    judge_all(trace, report, result);
  } else {
    judge_interleaved(trace, report, result);
  }
  deviation_.clear();
  left_open_ |= spec_.lost_track();
  compare_images(trace, report, result);
  if (unicorn_) ask_unicorn(trace, report, result);
  if (trace && !trace->known.empty()) check_known(*trace, report, result);
  return result;
}

void Checker::judge_all(const Trace* trace, const CheckReport& report, CheckResult& result) {
  spec_.observe(unicorn_);
  spec_.reset(last_->machine, result.profile);
  std::size_t expectation = 0;
  for (std::uint32_t i = 0; i < last_->steps.size(); ++i) {
    judge_step(i, outcomes_.steps[i], trace, report, result);
    if (!trace || trace->expectations.empty()) continue;
    // An operation's `=` lines are about its last step.
    const std::uint32_t op = last_->steps[i].op;
    if (i + 1 < last_->steps.size() && last_->steps[i + 1].op == op) continue;
    check_expectations(*trace, i, expectation, report, result);
  }
}

// Steps have overlapped. Expectations follow once all is judged.
void Checker::judge_interleaved(const Trace* trace, const CheckReport& report,
                                CheckResult& result) {
  const std::vector<Step>& steps = last_->steps;
  spec_.observe(nullptr);
  for (std::size_t i = 0; i < steps.size(); ++i) note_stores(steps[i].what, outcomes_.steps[i]);
  linearisation_.find(*last_, outcomes_, spec_, result.profile, [this] {
    return std::none_of(stored_.begin(), stored_.end(), [this](std::uint64_t gpa) {
      std::uint64_t word = 0;
      return subject_.read_image(gpa, word) && word_differs(gpa, word);
    });
  });
  stored_.clear();
  spec_.observe(unicorn_);
  spec_.reset(last_->machine, result.profile);
  const std::vector<std::uint32_t>& order = linearisation_.order();
  for (std::size_t at = 0; at < order.size(); ++at) {
    if (at < linearisation_.doubtful_from()) {
      const Outcome by = linearisation_.prepare(*last_, outcomes_, at, spec_);
      judge_step(order[at], by, trace, report, result);
      linearisation_.settle(*last_, outcomes_, at, spec_);
    } else {
      leave_open(order[at], trace, report, result);
    }
  }
  if (!trace || trace->expectations.empty()) return;
  std::size_t expectation = 0;
  for (std::uint32_t i = 0; i < steps.size(); ++i) {
    if (i + 1 < steps.size() && steps[i + 1].op == steps[i].op) continue;
    check_expectations(*trace, i, expectation, report, result);
  }
}

// No order of the overlapping steps explains what was seen up to here. What the subject found by
// itself counts all the same.
void Checker::leave_open(std::uint32_t index, const Trace* trace, const CheckReport& report,
                         CheckResult& result) {
  const Outcome& got = outcomes_.steps[index];
  ++result.checks;
  deviation_.clear();
  left_open_ = true;
  if (got.complaint != Complaint::kNone) {
    complain(got);
  } else {
    ++result.unspecified;
    verdict_ = {};
    verdict_.kind = VerdictKind::kUnspecified;
    verdict_.rule = &kOverlap;
    verdict_.field = "outcome";
    verdict_.got = to_text(got);
    verdict_.allowed = "what overlapping steps left";
  }
  deliver(index, trace, report, result);
}

// Makes verdict_ what the subject complains of.
void Checker::complain(const Outcome& got) {
  verdict_.kind = VerdictKind::kDiverge;
  verdict_.divergence = class_of(got.complaint);
  verdict_.rule = &kOwnInvariant;
  verdict_.field = "complaint";
  verdict_.got = outcomes_.complaint_text;
  verdict_.allowed = "no complaint";
}

void Checker::judge_step(std::uint32_t index, const Outcome& got, const Trace* trace,
                         const CheckReport& report, CheckResult& result) {
  spec_.judge(index, last_->steps[index], got, outcomes_.extra.data(), verdict_);
  ++result.checks;
  deviation_.clear();
  const bool by_nature = is_of_host(got.reason) || subject_.info().partial;
  if (left_out_ == SkipReason::kNone && got.kind == OutcomeKind::kSkip && by_nature)
    left_out_ = got.reason;
  note_stores(last_->steps[index].what, got);
  if (got.complaint != Complaint::kNone && verdict_.divergence != class_of(got.complaint))
    complain(got);
  switch (verdict_.kind) {
    case VerdictKind::kAgree:
      ++result.agree;
      return;
    case VerdictKind::kSkip:
      ++result.skip;
      break;
    case VerdictKind::kUnspecified:
      ++result.unspecified;
      break;
    case VerdictKind::kDiverge:
      if (deviations_ &&
          (got.complaint == Complaint::kNone || got.complaint == Complaint::kLiveness))
        deviation_ = deviations_(index, verdict_);
      break;
  }
  deliver(index, trace, report, result);
}

void Checker::note_stores(const Op& op, const Outcome& got) {
  each_stored(op, got, [this](std::uint64_t gpa) {
    const std::uint64_t word = gpa & ~std::uint64_t{7};
    if (stored_.empty() || stored_.back() != word) stored_.push_back(word);
  });
}

// Counts a divergence and hands verdict_ on.
void Checker::deliver(std::uint32_t index, const Trace* trace, const CheckReport& report,
                      CheckResult& result) {
  const Step& step = last_->steps[index];
  std::string_view id;
  if (verdict_.kind == VerdictKind::kDiverge) {
    id = accepting(trace);
    if (!id.empty()) {
      ++result.known;
    } else if (result.diverge++ == 0) {
      result.divergence = verdict_.divergence;
      result.known_before = result.known;
      result.step = index;
      result.op = step.op;
      result.verb = step.what.verb;
      result.field = verdict_.field;
      result.rule = verdict_.rule ? verdict_.rule->id : std::string_view();
    }
  }
  if (report) report({index, step.op, step, outcomes_.steps[index], verdict_, !id.empty(), id});
}

// The id by which the divergence in verdict_ is known, empty if it is not.
std::string_view Checker::accepting(const Trace* trace) {
  const std::string_view cls = name_of(verdict_.divergence);
  if (accept(trace, cls)) return cls;
  if (verdict_.rule && accept(trace, verdict_.rule->id)) return verdict_.rule->id;
  return deviation_;
}

bool Checker::accept(const Trace* trace, std::string_view id) {
  if (!trace) return false;
  for (const std::string& known : trace->known) {
    if (known != id) continue;
    reproduced_.push_back(known);
    return true;
  }
  return false;
}

// Makes verdict_ a divergence of the harness's own.
void Checker::diverge(DivergenceClass cls, const Rule& rule, std::string_view field,
                      std::string got, std::string allowed) {
  verdict_.kind = VerdictKind::kDiverge;
  verdict_.divergence = cls;
  verdict_.rule = &rule;
  verdict_.field = field;
  verdict_.got = std::move(got);
  verdict_.allowed = std::move(allowed);
}

void Checker::check_expectations(const Trace& trace, std::uint32_t index, std::size_t& next,
                                 const CheckReport& report, CheckResult& result) {
  const std::uint32_t op = last_->steps[index].op;
  const std::vector<Expectation>& all = trace.expectations;
  while (next < all.size() && all[next].op < op) ++next;  // operations that lower to no step
  for (; next < all.size() && all[next].op == op; ++next) {
    ++result.checks;
    if (matches(all[next].text, outcomes_.steps[index])) {
      ++result.agree;
      continue;
    }
    if (left_out_ != SkipReason::kNone) {
      skip_expectation(index, all[next], report, result);
      continue;
    }
    diverge(DivergenceClass::kExpectation, kExpected, "expectation",
            to_text(outcomes_.steps[index]), all[next].text);
    deliver(index, &trace, report, result);
  }
}

void Checker::skip_expectation(std::uint32_t index, const Expectation& expectation,
                               const CheckReport& report, CheckResult& result) {
  ++result.skip;
  verdict_ = {};
  verdict_.kind = VerdictKind::kSkip;
  verdict_.rule = &kExpected;
  verdict_.field = "expectation";
  verdict_.got = name_of(left_out_);
  verdict_.allowed = expectation.text;
  deliver(index, nullptr, report, result);
}

void Checker::compare_images(const Trace* trace, const CheckReport& report, CheckResult& result) {
  if (last_->steps.empty() || result.diverge || result.known || left_open_)
    return;  // afterwards the images may lawfully differ
  if (outcomes_.steps.back().reason == SkipReason::kSubjectStopped) return;
  std::sort(stored_.begin(), stored_.end());
  stored_.erase(std::unique(stored_.begin(), stored_.end()), stored_.end());
  const auto last = static_cast<std::uint32_t>(last_->steps.size() - 1);
  for (const std::uint64_t gpa : stored_) {
    std::uint64_t word = 0;
    if (!subject_.read_image(gpa, word)) continue;
    ++result.checks;
    if (!word_differs(gpa, word)) {
      ++result.agree;
      continue;
    }
    diverge(DivergenceClass::kWrongImage, kImage, "image", hex(word) + " at gpa " + hex(gpa),
            hex(spec_.read_word(gpa)));
    deviation_ = deviations_ ? deviations_(last, verdict_) : std::string_view();
    deliver(last, trace, report, result);
    if (result.diverge != 0) return;
  }
}

// The word stored to, as the subject has it, is not as the reference does.
bool Checker::word_differs(std::uint64_t gpa, std::uint64_t word) const {
  const std::uint64_t want = spec_.read_word(gpa);
  return word != want && ((word ^ want) & ~spec_.open_bits(gpa, word)) != 0;
}

void Checker::ask_unicorn(const Trace* trace, const CheckReport& report, CheckResult& result) {
  const oracle::UnicornClient::Result r =
      unicorn_->finish([&](const oracle::UnicornDisagreement& d) {
        if (!d.ledger.empty()) {
          accept(trace, d.ledger);
          ++result.known;
          return;
        }
        diverge(DivergenceClass::kReferenceDisagreement, kTwoReferences, "reference",
                d.field + " " + d.unicorn + " (unicorn)", d.spec + " (spec)");
        deliver(std::min(d.step, static_cast<std::uint32_t>(last_->steps.size() - 1)), trace,
                report, result);
      });
  result.unicorn_checks += r.checks;
  result.unicorn_skipped += r.skipped;
  result.unicorn_died |= r.died;
}

// Without Unicorn its deviations cannot show, so a `known` line is held to reproduce only when it
// was asked, about the whole program, and is of a version that deviates.
void Checker::check_known(const Trace& trace, const CheckReport& report, CheckResult& result) {
  if (!unicorn_ || last_->steps.empty() || left_out_ != SkipReason::kNone) return;
  for (const std::string& id : trace.known) {
    if (std::find(reproduced_.begin(), reproduced_.end(), id) != reproduced_.end()) continue;
    if (!unicorn_->can_show(id)) continue;
    diverge(DivergenceClass::kExpectation, kKnownReproduces, "known", id + " does not reproduce",
            id);
    deliver(static_cast<std::uint32_t>(last_->steps.size() - 1), nullptr, report, result);
  }
}

}  // namespace twinwalk
