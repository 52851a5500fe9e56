#include "harness/cli/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "harness/checker.h"
#include "harness/cli/input.h"
#include "harness/cli/nested_look.h"
#include "harness/cli/outcome_words.h"
#include "harness/cli/output.h"
#include "harness/cli/probe.h"
#include "harness/cli/subjects.h"
#include "harness/cli/trace_run.h"
#include "harness/cli/walk_table.h"
#include "harness/trace/print.h"
#include "harness/trace/schema.h"
#include "oracle/rules.h"

namespace twinwalk::cli {
namespace {

// A verdict that is not `agree`, kept beyond the checker's call.
struct Note {
  std::uint32_t step;
  Verdict verdict;
  bool known;
};

std::string registers_text(const Registers& r) {
  std::string text =
      fmt::format("cpl={} cr0={} cr3={:#x} cr4={} efer={}", r.cpl, bits_text(r.cr0, cr0::kNames),
                  r.cr3, bits_text(r.cr4, cr4::kNames), bits_text(r.efer, efer::kNames));
  if (r.ac) text += " ac=1";
  if (r.pkru != 0) text += fmt::format(" pkru={:#x}", r.pkru);
  return text;
}

void cite(const Rule& rule) {
  print("      {:<11} {}: {}\n", "rule", rule.id, rule.says);
  if (!rule.citation.empty()) print("      {:<11} {}\n", "", paint(Tone::kDim, rule.citation));
}

// Tells the story of one trace, after the checker has run it: the reference is run along a second
// time, so that its walk can be shown as it was just before each step; so is a subject of this tree
// with two dimensions, for its tables as they were just after.
class Story {
 public:
  Story(const NamedTrace& named, const Checker& checker, const SubjectInfo& info,
        std::vector<Note> notes)
      : trace_(named.trace),
        program_(checker.program()),
        outcomes_(checker.outcomes()),
        notes_(std::move(notes)),
        info_(info) {
    if (info.name == "core" || info.name == "bare") look_at_second_dimension();
    spec_.reset(program_.machine, info_.profile);
  }

  void tell() {
    std::uint32_t shown = ~std::uint32_t{0};
    for (std::uint32_t i = 0; i < program_.steps.size(); ++i) {
      const Step& step = program_.steps[i];
      if (step.op != shown) operation(shown = step.op);
      const bool lowered = step.what.verb != trace_.ops[step.op].verb;
      if (lowered) print("      {}\n", paint(Tone::kDim, twinwalk::print(step.what)));
      if (is_access(i)) {
        access(i);
      } else {
        other(i, lowered);
      }
      verdicts(i);
    }
  }

 private:
  void operation(std::uint32_t op) {
    for (const Trace::Comment& comment : trace_.comments) {
      if (comment.op == op) print("{}\n", paint(Tone::kDim, comment.text));
    }
    print("{} {}\n", paint(Tone::kDim, fmt::format("{:>3}", op)),
          paint(Tone::kBold, twinwalk::print(trace_.ops[op])));
  }

  bool is_access(std::uint32_t i) const {
    return program_.steps[i].what.verb == Verb::kAccess &&
           outcomes_.steps[i].kind != OutcomeKind::kSkip;
  }

  void look_at_second_dimension() {
    if (second_dimension_of(program_.machine) == Nesting::kNone) return;
    spec_.reset(program_.machine, info_.profile);
    std::vector<LookAt> wanted;
    for (std::uint32_t i = 0; i < program_.steps.size(); ++i) {
      const Op& op = program_.steps[i].what;
      const bool nested = program_.machine.core != Dimension::kBare || spec_.in_guest(op.vcpu);
      if (is_access(i) && nested) {
        wanted.push_back(
            {i, addresses_in(spec_.view(op.vcpu, access_query(op, spec_.registers(op.vcpu))))});
      }
      judge(i);
    }
    std::vector<NestedLook> looks = cli::look_at_second_dimension(program_, wanted);
    for (std::size_t n = 0; n < wanted.size(); ++n) looks_[wanted[n].step] = std::move(looks[n]);
  }

  void access(std::uint32_t i) {
    const Step& step = program_.steps[i];
    const Outcome& got = outcomes_.steps[i];
    const oracle::AccessQuery query = access_query(step.what, spec_.registers(step.what.vcpu));
    const oracle::WalkView view = spec_.view(step.what.vcpu, query);
    const NestedLook& nested = looks_[i];
    const oracle::FreshOutcome fresh = spec_.fresh(step.what.vcpu, query);
    print("      {}\n", paint(Tone::kDim, registers_text(query.registers)));
    for (std::size_t half = 0; half < view.parts.size(); ++half) {
      write_out(walk_table(view.parts[half], fresh.path[half], got.path[half], nested));
    }
    print("      {:<11} {}\n", "fresh walk", to_text(view.fresh));
    words(view.fresh);

    const std::uint64_t stale_before = spec_.counters().stale;
    judge(i);
    const bool stale = spec_.counters().stale != stale_before;
    print("      {:<11} {}{}\n", info_.name, paint(tone(), to_text(got)),
          stale ? "  (by a former translation, which is permitted until it is flushed)" : "");
    if (in_words(got) != in_words(view.fresh)) words(got);
    if (stale) permitted(view, got);
    // Of a divergence the checker's rule is the one that counts.
    if (!stale && !diverges(i) && view.rule != nullptr) cite(*view.rule);
  }

  static void words(const Outcome& outcome) {
    if (const std::string text = in_words(outcome); !text.empty())
      print("      {:<11} {}\n", "", paint(Tone::kDim, text));
  }

  // The former values that explain what the subject did.
  static void permitted(const oracle::WalkView& view, const Outcome& got) {
    const bool faults = got.kind == OutcomeKind::kPageFault;
    for (const oracle::WalkViewStale& stale : view.stale) {
      if (stale.faults != faults) continue;
      if (faults ? stale.error_code != got.error_code : stale.gpa != got.gpa[stale.part]) continue;
      write_out(former_entries(stale));
      return;
    }
  }

  bool diverges(std::uint32_t i) const {
    return std::any_of(notes_.begin(), notes_.end(), [i](const Note& note) {
      return note.step == i && note.verdict.kind == VerdictKind::kDiverge;
    });
  }

  void other(std::uint32_t i, bool lowered) {
    judge(i);
    const Outcome& got = outcomes_.steps[i];
    if (lowered && got.kind == OutcomeKind::kDone) return;
    print("      {:<11} {}\n", info_.name, paint(tone(), to_text(got)));
    if (program_.steps[i].what.verb == Verb::kDirtyGet) {
      std::string pages;
      for (std::uint32_t n = 0; n < got.extra_count; ++n) {
        pages += fmt::format(" {:#x}", outcomes_.extra[got.extra_begin + n]);
      }
      print("      {:<11}{}\n", "gfns", pages.empty() ? " none" : pages);
    }
  }

  void judge(std::uint32_t i) {
    spec_.judge(i, program_.steps[i], outcomes_.steps[i], outcomes_.extra.data(), verdict_);
  }
  Tone tone() const {
    return verdict_.kind == VerdictKind::kDiverge ? Tone::kBad
           : verdict_.kind == VerdictKind::kSkip  ? Tone::kDim
                                                  : Tone::kGood;
  }

  void verdicts(std::uint32_t i) {
    for (const Note& note : notes_) {
      if (note.step != i) continue;
      const Verdict& verdict = note.verdict;
      if (verdict.kind == VerdictKind::kDiverge) {
        print("   {} {}\n", paint(Tone::kBad, note.known ? "KNOWN DIVERGENCE" : "DIVERGENCE"),
              paint(Tone::kBold,
                    fmt::format("{}, in {}", name_of(verdict.divergence), verdict.field)));
      } else {
        print("   {}\n", paint(Tone::kNote, name_of(verdict.kind)));
      }
      if (!verdict.got.empty()) print("      {:<11} {}\n", "got", verdict.got);
      if (!verdict.allowed.empty()) print("      {:<11} {}\n", "allowed", verdict.allowed);
      if (verdict.rule != nullptr) cite(*verdict.rule);
    }
  }

  const Trace& trace_;
  const Program& program_;
  const OutcomeStream& outcomes_;
  const std::vector<Note> notes_;
  const SubjectInfo info_;
  std::map<std::uint32_t, NestedLook> looks_;  // by step
  oracle::Spec spec_;
  Verdict verdict_;
};

void print_head(const NamedTrace& named, const SubjectInfo& info) {
  for (const Trace::Comment& comment : named.trace.comments) {
    if (comment.op == Trace::kHeader) print("{}\n", paint(Tone::kDim, comment.text));
  }
  print("{}\nmachine     {}\nsubject     {}, profile {}\n", paint(Tone::kBold, named.path),
        twinwalk::print(named.trace.machine), info.name, name_of(info.profile));
}

// Of a trace that ends the process there is nothing to tell but what it did.
void tell_end(const NamedTrace& named, const SubjectInfo& info, const Probe& end) {
  print_head(named, info);
  for (std::size_t op = 0; op < named.trace.ops.size(); ++op) {
    print("{} {}\n", paint(Tone::kDim, fmt::format("{:>3}", op)),
          paint(Tone::kBold, twinwalk::print(named.trace.ops[op])));
  }
  print("   {} {}\n      {:<11} {}\n      {:<11} {}\n", paint(Tone::kBad, "DIVERGENCE"),
        paint(Tone::kBold, fmt::format("{}, in process", name_of(end.divergence))), "got", end.end,
        "allowed", "the core survives every trace");
  cite(oracle::rules::kOwnChecks);
}

}  // namespace

int explain(const std::string& path, const Reading& reading, const SubjectWords& words) {
  const NamedTrace named = load_trace(path, reading);
  const NamedSubject under_test = make_subject(words);
  if (under_test.subject == nullptr) {
    throw Failure(fmt::format("subject {}: {}", words.subject, under_test.why_not));
  }
  const auto unicorn = start_unicorn(parse_references(""));
  Checker checker(*under_test.subject, unicorn.get());
  accept_host_deviations(checker);
  if (words.subject == "core") {
    const Probe alive = probe(checker, named.trace);
    if (!alive.survived) {
      tell_end(named, info_on(*under_test.subject, named.trace.machine), alive);
      return kExitGood;
    }
  }
  std::vector<Note> notes;
  const CheckResult result = checker.check(named.trace, [&](const CheckEvent& event) {
    notes.push_back({event.step, event.verdict, event.known});
    notes.back().verdict.got = got_of(event, checker.outcomes());
  });
  const SubjectInfo info = info_on(*under_test.subject, named.trace.machine);
  print_head(named, info);
  if (!result.executed) {
    print("not run: its machine lacks what it requires ({})\n", named.trace.requires_line);
    return kExitGood;
  }
  Story(named, checker, info, std::move(notes)).tell();
  print(
      "{} operations: {} checks, {} agree, {} diverge, {} known, {} skip, {} unspecified; {} by "
      "unicorn\n",
      named.trace.ops.size(), result.checks, result.agree, result.diverge, result.known,
      result.skip, result.unspecified, result.unicorn_checks);
  return kExitGood;
}

}  // namespace twinwalk::cli
