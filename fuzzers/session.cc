#include "fuzzers/session.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "fuzzers/default_config.h"
#include "fuzzers/diverged.h"
#include "fuzzers/mmu_states.h"
#include "harness/finding.h"
#include "harness/own_subject.h"
#include "harness/trace/binary.h"

// A seeded bug defines these in the core that it patches; the core itself has none.
extern "C" {
__attribute__((weak)) extern unsigned mmu_canary_reached;
__attribute__((weak)) extern unsigned mmu_canary_triggered;
}

namespace twinwalk::fuzz {
namespace {

constexpr std::uint64_t kSampleEvery = 17;  // traces; the ring bounds what comes of it

std::string from_environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

#ifdef TWINWALK_ABORT_ON_FINDING
constexpr bool kAbort = true;
#else
constexpr bool kAbort = false;
#endif

// Counts the states that this trace reached; returns how many of them no trace had reached before.
std::uint64_t count_states(const std::uint8_t* states, std::uint32_t* hits) {
  std::uint64_t fresh = 0;
  for (std::uint32_t i = 0; i < kStateCounters; i += 8) {
    std::uint64_t eight;
    std::memcpy(&eight, states + i, 8);
    if (!eight) continue;
    for (std::uint32_t k = i; k < i + 8; ++k) {
      if (!states[k]) continue;
      if (hits[k] == 0) ++fresh;
      if (hits[k] != ~std::uint32_t{0}) ++hits[k];
    }
  }
  return fresh;
}

}  // namespace

const Config& config_from_environment() {
  const std::string name = from_environment(kConfigVariable);
  static const std::optional<Config> config = find_config(name.empty() ? kDefaultConfig : name);
  if (!config) {
    std::fprintf(stderr, "no configuration '%s'; there are: %s\n", name.c_str(),
                 config_names().c_str());
    std::exit(2);
  }
  return *config;
}

Session::Session()
    : config_(config_from_environment()),
      store_(from_environment(kCandidatesVariable)),
      stats_(&own_) {
  const std::string path = from_environment(kStatsVariable);
  if (!path.empty()) {
    if (!file_.open(path)) {
      std::fprintf(stderr, "%s is not a file of worker statistics\n", path.c_str());
      std::exit(2);
    }
    stats_ = file_.get();
  }
  CoreSubjectOptions options;
  if (core_state_counters() <= kStateCounters) options.state_counters = mmu_states();
  subject_ = make_own_subject(options);
  checker_ = std::make_unique<Checker>(*subject_);
}

Session::~Session() = default;

void Session::count(const CheckResult& result) {
  add(stats_->execs, 1);
  add(stats_->ops, trace_.ops.size());
  add(stats_->checks, result.checks);
  add(stats_->skipped, result.skip);
  add(stats_->known, result.known);
  const std::uint64_t stale = checker_->spec().counters().stale;
  add(stats_->stale, stale >= stale_ ? stale - stale_ : stale);
  stale_ = stale;
  add(stats_->states, count_states(mmu_states(), stats_->hits));
  if (&mmu_canary_reached) stats_->canary_reached.store(mmu_canary_reached);
  if (&mmu_canary_triggered) stats_->canary_triggered.store(mmu_canary_triggered);
}

void Session::diverged(const CheckResult& result) {
  add(stats_->divergences, 1);
  const std::uint64_t identity = hash_of(finding_of(result, result.profile));
  switch (store_.keep(trace_, result.divergence, identity)) {
    case CandidateStore::Kept::kWritten:
      add(stats_->recorded, 1);
      break;
    case CandidateStore::Kept::kFailed:
      note_lost(*stats_, store_.error());
      break;
    case CandidateStore::Kept::kEnough:
      break;
  }
  if (kAbort) abort_in_frame_of(result.divergence);
}

int Session::run(const std::uint8_t* data, std::size_t size) {
  decode({data, size}, trace_);
  config_.constrain(trace_);
  if (trace_.ops.empty()) {
    add(stats_->rejected, 1);
    return -1;
  }
  begin_states();
  const CheckResult result = checker_->check(trace_);
  end_states();
  count(result);
  if (stats_->execs.load(std::memory_order_relaxed) % kSampleEvery == 0)
    stats_->samples.push(data, size);
  if (result.divergence == DivergenceClass::kNone) return 0;
  diverged(result);
  return -1;
}

}  // namespace twinwalk::fuzz
