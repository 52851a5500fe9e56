#ifndef TWINWALK_HARNESS_SUBJECT_H_
#define TWINWALK_HARNESS_SUBJECT_H_

// Whatever MMU is under test: maps a whole program to a stream of outcomes.

#include <optional>
#include <string>
#include <vector>

#include "harness/trace/outcome.h"
#include "harness/trace/program.h"
#include "harness/trace/verdict.h"

namespace twinwalk {

struct SubjectInfo {
  std::string name;     // "core", "kvm", "core-kvm"
  std::string version;  // commit, kernel release: whatever tells two builds apart
  Profile profile = Profile::kKvm;
  // Has not all modes and verbs that a machine of version 1 has: what it skips it skips by nature.
  bool partial = false;
  // The only vendor of whose machines it can be one; none: any.
  std::optional<Vendor> vendor = {};
  // The only dimension in which its core works; none: the one that the machine says.
  std::optional<Dimension> dimension = {};
};

// Told when a run gets to certain steps: for those who time a part of it.
class StepWatch {
 public:
  // A run is about to execute step `step` (step 0 at first), or has executed the last one. Returns
  // the next step to be told of, kNoStep if there is none.
  virtual std::size_t reached(std::size_t step) = 0;
  static constexpr std::size_t kNoStep = ~std::size_t{0};

 protected:
  ~StepWatch() = default;
};

class Subject;
// What `subject` is for programs on that machine.
SubjectInfo info_on(const Subject& subject, const Machine& machine);

class Subject {
 public:
  virtual ~Subject() = default;
  virtual const SubjectInfo& info() const = 0;
  // How strictly its programs on that machine are judged: a trace that is the hypervisor meets none
  // but the processor.
  virtual Profile profile_for(const Machine& machine) const {
    return machine.core == Dimension::kBare ? Profile::kArchitecture : info().profile;
  }

  // Runs the program from the initial machine state and replaces `out`: one outcome a step, in
  // order. What the subject cannot do is OutcomeKind::kSkip with a reason, and changes nothing. If
  // the subject has to stop early the remaining steps are kSkip/kSubjectStopped. The same program
  // gives the same stream.
  virtual void run(const Program& program, OutcomeStream& out) = 0;

  // Within run(), from a StepWatch: how the second dimension in use translates `gpa` for that vCPU.
  // False: there is none, or the subject cannot tell.
  virtual bool nested_path(unsigned vcpu, std::uint64_t gpa, NestedPath& path) const {
    (void)vcpu, (void)gpa, (void)path;
    return false;
  }

  // After run(): the guest's memory of slot 0 at the end as 8-byte words, at `gpa` (8-aligned).
  // False where the subject cannot give its own image.
  virtual bool read_image(std::uint64_t gpa, std::uint64_t& word) const {
    (void)gpa, (void)word;
    return false;
  }
};

inline SubjectInfo info_on(const Subject& subject, const Machine& machine) {
  SubjectInfo info = subject.info();
  info.profile = subject.profile_for(machine);
  return info;
}

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_SUBJECT_H_
