#ifndef TWINWALK_KVM_RUNNER_REMOTE_REMOTE_SUBJECT_H_
#define TWINWALK_KVM_RUNNER_REMOTE_REMOTE_SUBJECT_H_

// The near end: a subject whose programs run elsewhere.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "harness/subject.h"
#include "harness/trace/reply.h"

namespace twinwalk::remote {

// One program's answer, or why there is none.
struct Answer {
  Reply reply;
  bool there = false;
  // Not there: the host died or hung over this program (`why`: its last words), which is the
  // program's doing and a finding; else what was missing, which is nobody's.
  bool died = false;
  std::string why;
  std::vector<std::uint8_t> seen;  // counters, where the far end has them
};

// Where programs run. A link may be slow to start and fast with many programs at once.
class Link {
 public:
  virtual ~Link() = default;
  // What it runs on, for result lines; known from the start.
  virtual std::string describe() const = 0;
  // Told how many programs of a run() are done, from time to time.
  void on_progress(std::function<void(std::size_t)> progress) { progress_ = std::move(progress); }
  // Asked from time to time during a run(). When it says so the run ends, and programs that are not
  // done have an Answer whose `why` is kStopped.
  void stop_when(std::function<bool()> asked) { asked_to_stop_ = std::move(asked); }
  static constexpr const char* kStopped = "stopped";

  // Whether programs of the runs to come may share what the far end sets up for them: much faster
  // where it makes VMs, but what one leaves behind the next may meet. Off at first.
  virtual void share_setup(bool share) { (void)share; }

  // Replaces `answers`: one a program. After a death it goes on with the next program on a new
  // start.
  virtual void run(std::span<const Program> programs, std::vector<Answer>& answers) = 0;

 protected:
  void tell_progress(std::size_t done) const {
    if (progress_) progress_(done);
  }
  bool asked_to_stop() const { return asked_to_stop_ && asked_to_stop_(); }

 private:
  std::function<void(std::size_t)> progress_;
  std::function<bool()> asked_to_stop_;
};

class RemoteSubject final : public Subject {
 public:
  // `name`: the word of --subject. `dimension`: the only one in which it is to work.
  RemoteSubject(std::unique_ptr<Link> link, std::string name,
                std::optional<Dimension> dimension = {});

  const SubjectInfo& info() const override { return info_; }
  // Runs them all at once; the next calls of run() with these programs, in this order, have their
  // answers already; some may be left out.
  void prefetch(std::vector<Program> programs);
  void run(const Program& program, OutcomeStream& out) override;
  bool read_image(std::uint64_t gpa, std::uint64_t& word) const override;

  Link& link() { return *link_; }
  // Of the last run.
  const Answer& last() const { return last_; }

 private:
  bool take_prefetched(const Program& program);

  std::unique_ptr<Link> link_;
  SubjectInfo info_;
  std::vector<Program> programs_;  // prefetched
  std::vector<Answer> answers_;
  std::size_t next_ = 0;
  Answer last_;
};

}  // namespace twinwalk::remote

#endif  // TWINWALK_KVM_RUNNER_REMOTE_REMOTE_SUBJECT_H_
