#include "harness/cli/minimise_verb.h"

#include <fmt/format.h>

#include <cstdio>

#include "harness/checker.h"
#include "harness/cli/input.h"
#include "harness/cli/output.h"
#include "harness/cli/probe.h"
#include "harness/cli/subjects.h"
#include "harness/minimise.h"
#include "harness/trace/print.h"

namespace twinwalk::cli {

int minimise_trace(const std::string& path, const std::string& subject, const std::string& out) {
  const NamedTrace named = load_trace(path, Input::kAny);
  const NamedSubject under_test = make_subject(subject);
  if (under_test.subject == nullptr) {
    throw Failure(fmt::format("subject {}: {}", subject, under_test.why_not));
  }
  // A disagreement between the references shows only if both are asked.
  const auto unicorn = start_unicorn(parse_references(""));
  Checker checker(*under_test.subject, unicorn.get());
  accept_host_deviations(checker);
  // Of a core under test any smaller trace may end the process, too.
  const bool alone = subject == "core";
  const Probe first =
      alone ? probe(checker, named.trace) : Probe{true, checker.check(named.trace).divergence, {}};
  if (first.divergence == DivergenceClass::kNone) {
    throw Failure(fmt::format("{}: does not diverge on subject {}", path, subject));
  }
  // Asking Unicorn on every attempt would only cost time where its answer is not the divergence.
  if (first.divergence != DivergenceClass::kReferenceDisagreement) checker.set_unicorn(nullptr);
  const Minimised smallest = alone ? minimise(named.trace,
                                              [&](const Trace& trace) {
                                                const Probe now = probe(checker, trace);
                                                return now.divergence == first.divergence &&
                                                       now.survived == first.survived;
                                              })
                                   : minimise(checker, named.trace, first.divergence);
  write_file(out, print(smallest.trace));
  fmt::print(stderr, "twinwalk: {}: {} operations of {} are left, after {} runs\n",
             name_of(first.divergence), smallest.trace.ops.size(), named.trace.ops.size(),
             smallest.runs);
  return kExitGood;
}

}  // namespace twinwalk::cli
