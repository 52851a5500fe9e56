#include "harness/cli/nested_look.h"

#include "harness/own_subject.h"

namespace twinwalk::cli {
namespace {

// Of steps that run inside another the looks come when that one has ended.
class Looker final : public StepWatch {
 public:
  Looker(const Program& program, const std::vector<LookAt>& wanted, std::vector<NestedLook>& out)
      : program_(program), wanted_(wanted), out_(out) {}
  void look_at(const Subject& subject) { subject_ = &subject; }

  std::size_t reached(std::size_t step) override {
    for (; next_ < wanted_.size() && wanted_[next_].step < step; ++next_) look();
    return next_ < wanted_.size() ? wanted_[next_].step + std::size_t{1} : kNoStep;
  }

 private:
  void look() {
    const LookAt& at = wanted_[next_];
    const unsigned vcpu = program_.steps[at.step].what.vcpu;
    for (const std::uint64_t gpa : at.gpas) {
      NestedPath path;
      if (subject_->nested_path(vcpu, gpa, path)) out_[next_].paths[gpa] = path;
    }
  }

  const Program& program_;
  const std::vector<LookAt>& wanted_;
  std::vector<NestedLook>& out_;
  const Subject* subject_ = nullptr;
  std::size_t next_ = 0;
};

}  // namespace

Nesting second_dimension_of(const Machine& machine) {
  switch (machine.core) {
    case Dimension::kEpt:
      return Nesting::kEpt;
    case Dimension::kNpt:
      return Nesting::kNpt;
    case Dimension::kBare:
      return machine.nested;
    case Dimension::kShadow:
      break;
  }
  return Nesting::kNone;
}

std::vector<std::uint64_t> addresses_in(const oracle::WalkView& view) {
  std::vector<std::uint64_t> gpas;
  for (const oracle::WalkViewPart& part : view.parts) {
    for (const oracle::WalkViewStep& s : part.steps) gpas.push_back(s.entry_gpa);
    if (part.translates) {
      gpas.push_back(part.gpa);
    } else if (!part.nested.steps.empty()) {
      gpas.push_back(part.nested.gpa);
    }
  }
  return gpas;
}

std::vector<NestedLook> look_at_second_dimension(const Program& program,
                                                 const std::vector<LookAt>& wanted) {
  std::vector<NestedLook> out(wanted.size());
  const Nesting kind = second_dimension_of(program.machine);
  if (kind == Nesting::kNone || wanted.empty()) return out;
  for (NestedLook& look : out) look.kind = kind;
  Looker looker(program, wanted, out);
  CoreSubjectOptions options;
  options.watch = &looker;
  const auto subject = make_own_subject(options);
  looker.look_at(*subject);
  OutcomeStream ignored;
  subject->run(program, ignored);
  return out;
}

}  // namespace twinwalk::cli
