#include "harness/fuzzing/referee.h"

#include <sys/mman.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <new>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>

#include "harness/checker.h"
#include "harness/finding.h"
#include "harness/fuzzing/atomic_file.h"
#include "harness/fuzzing/candidate_store.h"
#include "harness/fuzzing/worker_stats.h"
#include "harness/own_subject.h"
#include "harness/trace/binary.h"
#include "oracle/unicorn/client.h"

namespace twinwalk::fuzz {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr unsigned kMaxRestarts = 20;
constexpr std::size_t kMaxEntry = 1 << 16;

// What runs in the referee's own process.
class Loop {
 public:
  Loop(const RefereePlan& plan, RefereeCounts& counts)
      : plan_(plan),
        counts_(counts),
        unicorn_(plan.unicorn),
        subject_(make_own_subject()),
        checker_(*subject_, &unicorn_),
        store_(plan.candidates),
        begin_(Clock::now()) {}

  int run() {
    std::string why;
    if (!unicorn_.available(why)) {
      std::snprintf(counts_.why, sizeof counts_.why, "%s", why.c_str());
      counts_.unavailable = true;
      return 0;
    }
    const oracle::UnicornVersion v = unicorn_.version();
    std::snprintf(counts_.version, sizeof counts_.version, "%d.%d.%d", v.major, v.minor, v.patch);
    for (const std::string& path : plan_.worker_stats) {
      files_.emplace_back();
      if (!files_.back().open(path)) files_.pop_back();
    }
    for (;;) {
      const bool entries = check_new_entries(), samples = check_samples();
      if (!entries && !samples) std::this_thread::sleep_for(std::chrono::milliseconds(50));
      wait_for_share();
    }
  }

 private:
  // Sleeps until the time spent is within the share again.
  void wait_for_share() {
    const double share = std::min(0.95, plan_.share * plan_.jobs);
    const double over = spent_.count() - share * Seconds(Clock::now() - begin_).count();
    if (over > 0) std::this_thread::sleep_for(Seconds(std::min(0.5, over / share)));
  }

  void check(const std::vector<std::uint8_t>& bytes) {
    const auto from = Clock::now();
    decode(bytes, trace_);
    plan_.config->constrain(trace_);
    const CheckResult r = checker_.check(trace_);
    counts_.traces += 1;
    counts_.unicorn_checks += r.unicorn_checks;
    counts_.skipped += r.unicorn_skipped;
    if (r.unicorn_died) counts_.deaths += 1;
    if (r.divergence != DivergenceClass::kNone) {
      if (r.divergence == DivergenceClass::kReferenceDisagreement) counts_.disagreements += 1;
      store_.keep(trace_, r.divergence, hash_of(finding_of(r, r.profile)));
    }
    spent_ += Clock::now() - from;
  }

  bool check_new_entries() {
    const auto now = Clock::now();
    if (queue_.empty() && now >= next_look_) {
      next_look_ = now + std::chrono::milliseconds(300);
      std::error_code error;
      for (const auto& entry : std::filesystem::directory_iterator(plan_.corpus, error)) {
        std::string path = entry.path().string();
        if (entry.is_regular_file(error) && known_.insert(path).second)
          queue_.push_back(std::move(path));
      }
    }
    // A few at a time, so that samples get their turn when there are many.
    for (unsigned n = 0; n < 8 && !queue_.empty(); ++n) {
      std::string text;
      if (read_file(queue_.back(), kMaxEntry, text)) {
        check(std::vector<std::uint8_t>(text.begin(), text.end()));
        counts_.corpus_entries += 1;
      }
      queue_.pop_back();
      if (queue_.empty()) return true;
    }
    return !queue_.empty();
  }

  bool check_samples() {
    bool any = false;
    for (StatsFile& file : files_) {
      if (!file->samples.pop(sample_)) continue;
      check(sample_);
      any = true;
    }
    return any;
  }

  const RefereePlan& plan_;
  RefereeCounts& counts_;
  oracle::UnicornClient unicorn_;
  std::unique_ptr<Subject> subject_;
  Checker checker_;
  CandidateStore store_;
  Clock::time_point begin_, next_look_{};
  Seconds spent_{0};
  std::vector<StatsFile> files_;
  std::set<std::string> known_;
  std::vector<std::string> queue_;
  std::vector<std::uint8_t> sample_;
  Trace trace_;
};

}  // namespace

Referee::Referee() {
  void* at = ::mmap(nullptr, sizeof(RefereeCounts), PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) throw std::bad_alloc();
  counts_ = new (at) RefereeCounts;
}

Referee::~Referee() {
  stop();
  ::munmap(counts_, sizeof(RefereeCounts));
}

void Referee::start(RefereePlan plan) {
  plan_ = std::move(plan);
  wanted_ = child_.call([this] { return Loop(plan_, *counts_).run(); });
}

void Referee::tend() {
  if (!wanted_ || child_.running()) return;
  if (counts_->unavailable || ++restarts_ > kMaxRestarts) {
    wanted_ = false;
    return;
  }
  child_.call([this] { return Loop(plan_, *counts_).run(); });
}

void Referee::stop() {
  wanted_ = false;
  child_.stop(2);
}

}  // namespace twinwalk::fuzz
