#include "harness/fuzzing/triage.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <new>
#include <utility>

#include "harness/finding.h"
#include "harness/fuzzing/atomic_file.h"
#include "harness/fuzzing/examine.h"
#include "harness/own_subject.h"
#include "harness/trace/load.h"

namespace twinwalk::fuzz {

struct Triage::Answer {
  char text[4096] = {};
};

Triage::Triage(TriagePlan plan) : plan_(std::move(plan)) {
  void* at =
      ::mmap(nullptr, sizeof(Answer), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) throw std::bad_alloc();
  answer_ = new (at) Answer;
}

Triage::~Triage() {
  stop();
  ::munmap(answer_, sizeof(Answer));
}

void Triage::stop() {
  if (busy_) child_.stop(0.5);
  busy_ = false;
  queue_.clear();
}

void Triage::add(const Candidate& candidate) {
  if (seen_.insert(candidate.path).second) queue_.push_back(candidate);
}

void Triage::begin(double now) {
  current_ = queue_.front();
  queue_.pop_front();
  started_ = now;
  *answer_ = Answer{};
  std::set<std::string> found;
  for (const auto& [name, index] : by_name_) found.insert(name);
  busy_ = child_.call([this, &found] {
    const std::string text = to_text(examine(plan_, current_, found));
    std::snprintf(answer_->text, sizeof answer_->text, "%s", text.c_str());
    return 0;
  });
}

void Triage::record(const Examined& e, double now) {
  const auto known = by_name_.find(e.name);
  if (known != by_name_.end()) {
    ++findings_[known->second].hits;
    by_name_.emplace(e.first_name, known->second);
    return;
  }
  FindingRecord f;
  f.name = e.name;
  f.is_new = plan_.known.count(e.name) == 0;
  f.reproduces = e.reproduces;
  f.reproduced = e.reproduced;
  f.operations = e.operations;
  f.seconds = now;
  by_name_.emplace(e.name, findings_.size());
  by_name_.emplace(e.first_name, findings_.size());
  findings_.push_back(std::move(f));
}

void Triage::finish(double now) {
  busy_ = false;
  Examined e;
  if (!from_text(answer_->text, e)) {
    if (current_.crash) return;  // its trace stays among the candidates
    // It killed the process that examined it: the same as if it had killed its worker.
    Candidate again = current_;
    again.crash = true;
    again.divergence = child_.signal() ? DivergenceClass::kTrap : DivergenceClass::kHang;
    again.why = "signal " + std::to_string(child_.signal()) + " while it was examined";
    queue_.push_front(again);
    return;
  }
  unicorn_checks_ += e.unicorn_checks;
  if (e.kind == Examined::Kind::kFailed) {
    error_ = e.error;
    return;
  }
  if (e.kind != Examined::Kind::kNothing) record(e, now);
  // It is a finding now, or a repetition of one.
  std::error_code error;
  if (!current_.crash) std::filesystem::remove(current_.path, error);
}

bool Triage::tend(double now) {
  const std::size_t before = findings_.size();
  if (busy_) {
    // Its own deadline is for minimising; what takes far longer hangs.
    if (child_.running()) {
      if (now - started_ > 2 * plan_.seconds_each + 30) child_.stop(0.1);
      return false;
    }
    finish(now);
  }
  if (!busy_ && !queue_.empty() && error_.empty()) begin(now);
  return findings_.size() != before;
}

std::set<std::string> known_findings(const std::string& folder) {
  std::set<std::string> out;
  std::error_code error;
  std::unique_ptr<Subject> subject = make_own_subject();
  Checker checker(*subject);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder, error)) {
    if (entry.path().extension() != ".walk") continue;
    const ParseResult read = load_trace(entry.path().string());
    if (!read || read.trace.known.empty()) continue;
    Trace trace = read.trace;
    trace.known.clear();
    trace.expectations.clear();
    const CheckResult r = checker.check(trace);
    if (r.divergence != DivergenceClass::kNone) out.insert(name_of(finding_of(r, r.profile)));
  }
  return out;
}

}  // namespace twinwalk::fuzz
