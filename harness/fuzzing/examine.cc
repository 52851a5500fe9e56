#include "harness/fuzzing/examine.h"

#include <unistd.h>

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "harness/checker.h"
#include "harness/finding.h"
#include "harness/fuzzing/atomic_file.h"
#include "harness/fuzzing/candidate_store.h"
#include "harness/fuzzing/finding_file.h"
#include "harness/minimise.h"
#include "harness/own_subject.h"
#include "harness/trace/binary.h"
#include "harness/trace/print.h"
#include "harness/trace/result_line.h"
#include "oracle/unicorn/client.h"

namespace twinwalk::fuzz {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMaxCandidate = 1 << 20;
constexpr double kRerunSeconds = 12;  // of a worker on one input, its own hang limit included
constexpr std::uint64_t kMaxReruns = 400;

std::function<bool()> deadline(double seconds) {
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  return [end] { return Clock::now() >= end; };
}

// The class that the worker shows on the trace; kNone if it survives.
DivergenceClass rerun(const TriagePlan& plan, const Candidate& candidate, const Trace& trace) {
  const std::string stem = plan.output.workers() + "/rerun-" + std::to_string(::getpid());
  std::vector<std::uint8_t> bytes;
  encode(trace, bytes);
  if (!write_atomically(stem, bytes).empty()) return DivergenceClass::kNone;
  Command c;
  c.words = {candidate.program, "-timeout=2", "-detect_leaks=0", "-artifact_prefix=" + stem + "-",
             stem};
  c.environment = {{"TWINWALK_FUZZ_CONFIG", std::string(plan.config->name)}};
  c.log = stem + "-log";
  Child child;
  DivergenceClass shown = DivergenceClass::kNone;
  if (child.start(c)) {
    if (!child.wait(kRerunSeconds)) {
      child.stop(1);
      shown = DivergenceClass::kHang;
    } else if (child.exit_code() != 0) {
      shown = class_of_crash(tail_of(c.log, 64 << 10), "");
    }
  }
  ::unlink(stem.c_str());
  ::unlink(c.log.c_str());
  return shown;
}

// Crashes: only a process that may die can show them.
Examined examine_crash(const TriagePlan& plan, const Candidate& candidate, const Trace& trace,
                       const std::set<std::string>& found) {
  Examined out;
  ResultLine line;
  line.subject = "core";
  line.profile = name_of(Profile::kKvm);
  line.verdict = name_of(VerdictKind::kDiverge);
  line.cls = name_of(candidate.divergence);
  line.field = "process";
  line.got = candidate.why.empty() ? "the worker ended" : candidate.why;
  line.allowed = "the worker survives every trace";
  // What a crash says of itself, without addresses and process ids, tells crashes apart.
  std::string said;
  for (char c : line.got) {
    if (c < '0' || c > '9') said += c;
  }
  out.first_name = line.cls + '-' + hex8(hash_bytes(said));
  out.name = out.first_name;
  if (found.count(out.name)) {
    out.kind = Examined::Kind::kDuplicate;
    return out;
  }
  // On disk before the long part.
  out.error = write_finding(plan.output, out.name, trace, line);
  const auto shows = [&](const Trace& t) {
    return rerun(plan, candidate, t) == candidate.divergence;
  };
  Minimised small;
  small.trace = trace;
  if (out.error.empty()) {
    MinimiseOptions options;
    options.max_runs = kMaxReruns;
    options.stop = deadline(plan.seconds_each);
    small = minimise(trace, shows, options);
    out.reproduces = small.reproduced;
    for (unsigned i = 0; i < kReplays && small.reproduced && !options.stop(); ++i)
      out.reproduced += shows(small.trace);
    plan.config->constrain(small.trace);  // as the worker does: text may say nothing else
    if (!small.trace.ops.empty()) line.verb = name_of(small.trace.ops.back().verb);
    out.error = write_finding(plan.output, out.name, small.trace, line);
  }
  out.operations = small.trace.ops.size();
  out.kind = out.error.empty() ? Examined::Kind::kFinding : Examined::Kind::kFailed;
  return out;
}

class Examiner {
 public:
  Examiner(const TriagePlan& plan, const Candidate& candidate)
      : plan_(plan),
        candidate_(candidate),
        unicorn_(plan.unicorn),
        subject_(make_own_subject()),
        checker_(*subject_) {
    std::string why;
    if (!plan.unicorn.empty() && unicorn_.available(why)) checker_.set_unicorn(&unicorn_);
  }

  Examined run(const Trace& trace, const std::set<std::string>& found) {
    CheckResult first = look(trace);
    if (first.divergence == DivergenceClass::kNone) return keep_unreproduced(trace);
    out_.first_name = out_.name = name_of(finding_of(first, first.profile));
    if (found.count(out_.name)) {
      out_.kind = Examined::Kind::kDuplicate;
      return out_;
    }
    out_.error = write_finding(plan_.output, out_.name, trace, line_);  // at once; smaller later
    if (!out_.error.empty()) return failed();
    return minimise_and_write(trace, first.divergence);
  }

 private:
  // Checks and remembers the line of the first divergence.
  CheckResult look(const Trace& trace) {
    bool have = false;
    CheckResult r = checker_.check(trace, [&](const CheckEvent& event) {
      if (have || event.known || event.verdict.kind != VerdictKind::kDiverge) return;
      have = true;
      line_ = line_of(event, info_on(*subject_, trace.machine));
    });
    out_.unicorn_checks += r.unicorn_checks;
    return r;
  }

  Examined failed() {
    out_.kind = Examined::Kind::kFailed;
    return out_;
  }

  // Found by a worker, not seen here: the finding is that, and the trace as it was.
  Examined keep_unreproduced(const Trace& trace) {
    const std::string stem = candidate_.path.substr(candidate_.path.rfind('/') + 1);
    out_.name = out_.first_name = stem.substr(0, stem.rfind('.'));
    line_.verdict = name_of(VerdictKind::kDiverge);
    line_.cls = out_.name.substr(0, out_.name.rfind('-'));
    line_.subject = subject_->info().name;
    line_.profile = name_of(subject_->profile_for(trace.machine));
    line_.field = "process";
    line_.got = "a worker saw a divergence that a fresh process does not show";
    line_.allowed = "the same trace gives the same result in every process";
    out_.reproduces = false;
    out_.operations = trace.ops.size();
    out_.error = write_finding(plan_.output, out_.name, trace, line_);
    if (!out_.error.empty()) return failed();
    out_.kind = Examined::Kind::kFinding;
    return out_;
  }

  Examined minimise_and_write(const Trace& trace, DivergenceClass wanted) {
    // Unicorn is asked again only where it is what disagrees.
    if (wanted != DivergenceClass::kReferenceDisagreement) checker_.set_unicorn(nullptr);
    MinimiseOptions options;
    options.stop = deadline(plan_.seconds_each);
    const Minimised small = minimise(checker_, trace, wanted, options);
    const Trace& best = small.reproduced ? small.trace : trace;
    for (unsigned i = 0; i < kReplays; ++i)
      out_.reproduced += checker_.check(best).divergence == wanted;
    const CheckResult last = look(best);
    const std::string before = out_.name;
    if (last.divergence != DivergenceClass::kNone)
      out_.name = name_of(finding_of(last, last.profile));
    out_.operations = best.ops.size();
    out_.error = write_finding(plan_.output, out_.name, best, line_);
    if (!out_.error.empty()) return failed();
    if (out_.name != before) remove_finding(plan_.output, before);
    out_.kind = Examined::Kind::kFinding;
    return out_;
  }

  const TriagePlan& plan_;
  const Candidate& candidate_;
  oracle::UnicornClient unicorn_;
  std::unique_ptr<Subject> subject_;
  Checker checker_;
  ResultLine line_;
  Examined out_;
};

}  // namespace

Examined examine(const TriagePlan& plan, const Candidate& candidate,
                 const std::set<std::string>& found) {
  std::string bytes;
  Trace trace;
  if (!read_file(candidate.path, kMaxCandidate, bytes)) return {};
  decode({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}, trace);
  plan.config->constrain(trace);
  return candidate.crash ? examine_crash(plan, candidate, trace, found)
                         : Examiner(plan, candidate).run(trace, found);
}

std::string to_text(const Examined& e) {
  return nlohmann::json{{"kind", static_cast<int>(e.kind)},
                        {"first", e.first_name},
                        {"name", e.name},
                        {"error", e.error},
                        {"reproduced", e.reproduced},
                        {"reproduces", e.reproduces},
                        {"operations", e.operations},
                        {"unicorn", e.unicorn_checks}}
      .dump();
}

bool from_text(const std::string& text, Examined& out) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) return false;
  out.kind = static_cast<Examined::Kind>(json.value("kind", 2));
  out.first_name = json.value("first", "");
  out.name = json.value("name", "");
  out.error = json.value("error", "");
  out.reproduced = json.value("reproduced", 0u);
  out.reproduces = json.value("reproduces", true);
  out.operations = json.value("operations", std::uint64_t{0});
  out.unicorn_checks = json.value("unicorn", std::uint64_t{0});
  return true;
}

}  // namespace twinwalk::fuzz
