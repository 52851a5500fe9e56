#include "harness/cli/minimise_verb.h"

#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <utility>

#include "harness/checker.h"
#include "harness/cli/input.h"
#include "harness/cli/output.h"
#include "harness/cli/probe.h"
#include "harness/cli/subjects.h"
#include "harness/minimise.h"
#include "harness/trace/parse.h"
#include "harness/trace/print.h"

namespace twinwalk::cli {
namespace {

// Any smaller trace may be the end of the process. All tries are made in one child; if it dies,
// each in one of its own.
Trace smallest_of_core(Checker& checker, const Trace& trace, const Probe& first) {
  if (first.survived) {
    const auto text =
        text_of_child([&] { return print(minimise(checker, trace, first.divergence).trace); });
    if (text) {
      if (ParseResult read = parse(*text)) return std::move(read.trace);
    }
  }
  const auto shows = [&](const Trace& smaller) {
    const Probe now = probe(checker, smaller);
    return now.divergence == first.divergence && now.survived == first.survived;
  };
  return minimise(trace, shows).trace;
}

}  // namespace

Smallest smallest_trace(const NamedTrace& named, const SubjectWords& words) {
  const NamedSubject under_test = make_subject(words);
  if (under_test.subject == nullptr) {
    throw Failure(fmt::format("subject {}: {}", words.subject, under_test.why_not));
  }
  // A disagreement between the references shows only if both are asked.
  const auto unicorn = start_unicorn(parse_references(""));
  Checker checker(*under_test.subject, unicorn.get());
  accept_host_deviations(checker);
  const bool alone = words.subject == "core";
  const Probe first =
      alone ? probe(checker, named.trace) : Probe{true, checker.check(named.trace).divergence, {}};
  if (first.divergence == DivergenceClass::kNone) {
    throw Failure(fmt::format("{}: does not diverge on subject {}", named.path, words.subject));
  }
  // Asking Unicorn on every attempt would only cost time where its answer is not the divergence.
  if (first.divergence != DivergenceClass::kReferenceDisagreement) checker.set_unicorn(nullptr);
  return {alone ? smallest_of_core(checker, named.trace, first)
                : minimise(checker, named.trace, first.divergence).trace,
          first.divergence};
}

int minimise_trace(const std::string& path, const Reading& reading, const SubjectWords& words,
                   const std::string& out) {
  const NamedTrace named = load_trace(path, reading);
  const Smallest smallest = smallest_trace(named, words);
  write_file(out, print(smallest.trace));
  fmt::print(stderr, "twinwalk: {}: {} operations of {} are left\n", name_of(smallest.divergence),
             smallest.trace.ops.size(), named.trace.ops.size());
  return kExitGood;
}

}  // namespace twinwalk::cli
