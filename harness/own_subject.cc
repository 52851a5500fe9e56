#include "harness/own_subject.h"

#include "harness/bare_subject.h"

namespace twinwalk {
namespace {

class OwnSubject final : public Subject {
 public:
  explicit OwnSubject(const CoreSubjectOptions& options)
      : core_(make_core_subject(options)), last_(core_.get()), watch_(options.watch) {}

  // Of the last run; before any, of the core.
  const SubjectInfo& info() const override { return last_->info(); }
  Profile profile_for(const Machine& machine) const override {
    return machine.core == Dimension::kBare ? Profile::kArchitecture : core_->profile_for(machine);
  }
  void run(const Program& program, OutcomeStream& out) override {
    last_ = &of(program.machine);
    last_->run(program, out);
  }
  bool nested_path(unsigned vcpu, std::uint64_t gpa, NestedPath& path) const override {
    return last_->nested_path(vcpu, gpa, path);
  }
  bool read_image(std::uint64_t gpa, std::uint64_t& word) const override {
    return last_->read_image(gpa, word);
  }

 private:
  Subject& of(const Machine& machine) {
    if (machine.core != Dimension::kBare) return *core_;
    if (!bare_) bare_ = make_bare_subject(watch_);  // few traces need it
    return *bare_;
  }

  std::unique_ptr<Subject> core_, bare_;
  Subject* last_;
  StepWatch* watch_;
};

}  // namespace

std::unique_ptr<Subject> make_own_subject(CoreSubjectOptions options) {
  return std::make_unique<OwnSubject>(options);
}

}  // namespace twinwalk
