// zoo_ID ID.walk: linked with a core that has the bug ID, whose canaries the patch defines. The
// trace must diverge by a rule or an audit, not merely by what it says it expects, or crash the
// core (under a sanitizer: by its report); and the canaries must have seen the bug.
// zoo_ID --neutral ID.walk: what was changed is no bug. The canaries must have seen it, and nobody
// else.

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <string>
#include <string_view>

#include "harness/checker.h"
#include "harness/core_subject.h"
#include "harness/trace/load.h"

extern "C" unsigned mmu_canary_reached, mmu_canary_triggered;
// Of a sanitizer's runtime, where there is one: called as its last word.
// NOLINTNEXTLINE(bugprone-reserved-identifier)
extern "C" [[gnu::weak]] void __sanitizer_set_death_callback(void (*callback)());

namespace {

using namespace twinwalk;

constexpr std::size_t kMostOperations = 15;

int fail(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  return 1;
}

bool canaries_sang() { return mmu_canary_reached && mmu_canary_triggered; }

// A bug that only a crash shows has been seen: nothing is left to check but the canaries. No stream
// and no allocation here.
extern "C" void on_death() {
  static constexpr char kSeen[] = "a crash\n", kSilent[] = "a crash, and a canary is silent\n";
  const bool sang = canaries_sang();
  const auto written =
      sang ? ::write(1, kSeen, sizeof kSeen - 1) : ::write(2, kSilent, sizeof kSilent - 1);
  ::_exit(sang && written > 0 ? 0 : 1);
}
extern "C" void on_signal(int) { on_death(); }

// What the checker says of the trace: the first divergence and its rule; "" if it agrees.
std::string judge(const Trace& trace) {
  const auto subject = make_core_subject();
  Checker checker(*subject);
  std::string seen;
  checker.check(trace, [&](const CheckEvent& e) {
    if (e.verdict.kind != VerdictKind::kDiverge) return;
    if (e.verdict.divergence == DivergenceClass::kExpectation || !seen.empty()) return;
    seen = std::string(name_of(e.verdict.divergence)) + " by rule " +
           (e.verdict.rule ? std::string(e.verdict.rule->id) : "none");
  });
  return seen;
}

int check(const std::string& path, bool neutral) {
  const ParseResult read = load_trace(path);
  if (!read) return fail(to_text(*read.error));
  if (read.trace.ops.size() >= kMostOperations) return fail("the trace is not minimal");
  if (!neutral) {
    std::signal(SIGSEGV, on_signal);
    if (&__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(on_death);
  }
  const std::string seen = judge(read.trace);
  if (seen.empty() != neutral)
    return fail(neutral ? "the neutral change was taken for a bug: " + seen
                        : "the seeded bug was not seen");
  if (!canaries_sang()) return fail("a canary is silent");
  std::printf("%s\n", neutral ? "nothing, as it should be" : seen.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const bool neutral = argc == 3 && std::string_view(argv[1]) == "--neutral";
  if (argc != 2 && !neutral) return fail("usage: zoo_ID [--neutral] ID.walk");
  return check(argv[argc - 1], neutral);
}
