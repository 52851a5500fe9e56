#include "kvm_runner/remote/remote_subject.h"

#include <algorithm>
#include <utility>

namespace twinwalk::remote {
namespace {

bool same(const Program& a, const Program& b) {
  const auto same_step = [](const Step& x, const Step& y) { return x.what == y.what; };
  return a.machine == b.machine &&
         std::equal(a.steps.begin(), a.steps.end(), b.steps.begin(), b.steps.end(), same_step);
}

// An answer that is not there: nothing was executed, and if the host died of it that is its
// complaint.
void stand_in(const Answer& answer, std::size_t steps, OutcomeStream& out) {
  out.clear();
  out.steps.resize(steps);
  for (Outcome& o : out.steps) {
    o.kind = OutcomeKind::kSkip;
    o.reason = answer.died ? SkipReason::kSubjectStopped : SkipReason::kHostLacksFeature;
  }
  if (!answer.died || out.steps.empty()) return;
  out.steps.front().complaint = Complaint::kTrap;
  out.complaint_text = answer.why;
}

// Takes `word` and the space behind it off the front.
bool take(std::string& text, const std::string& word) {
  if (text.compare(0, word.size() + 1, word + " ") != 0) return false;
  text.erase(0, word.size() + 1);
  return true;
}

// What describe() (answer.h) made of it.
SubjectInfo info_of(std::string name, std::string text) {
  SubjectInfo info{std::move(name), "", Profile::kKvmOnProcessor, true, {}, {}};
  for (const Vendor vendor : {Vendor::kIntel, Vendor::kAmd}) {
    if (take(text, "vendor=" + std::string(name_of(vendor)))) info.vendor = vendor;
  }
  for (const Profile profile : {Profile::kKvm, Profile::kArchitecture, Profile::kKvmOnProcessor}) {
    if (take(text, "judged=" + std::string(name_of(profile)))) info.profile = profile;
  }
  info.version = std::move(text);
  return info;
}

}  // namespace

RemoteSubject::RemoteSubject(std::unique_ptr<Link> link, std::string name,
                             std::optional<Dimension> dimension)
    : link_(std::move(link)), info_(info_of(std::move(name), link_->describe())) {
  info_.dimension = dimension;
  if (dimension && *dimension != Dimension::kShadow) info_.profile = Profile::kArchitecture;
}

void RemoteSubject::prefetch(std::vector<Program> programs) {
  programs_ = std::move(programs);
  next_ = 0;
  link_->run(programs_, answers_);
}

bool RemoteSubject::take_prefetched(const Program& program) {
  const auto first = programs_.begin() + static_cast<std::ptrdiff_t>(next_);
  const auto found =
      std::find_if(first, programs_.end(), [&](const Program& p) { return same(p, program); });
  if (found == programs_.end()) return false;
  next_ = static_cast<std::size_t>(found - programs_.begin());
  last_ = std::move(answers_[next_++]);
  return true;
}

void RemoteSubject::run(const Program& program, OutcomeStream& out) {
  if (!take_prefetched(program)) {
    std::vector<Answer> answers;
    link_->run({&program, 1}, answers);
    last_ = std::move(answers.front());
  }
  const bool fits = last_.there && last_.reply.outcomes.steps.size() == program.steps.size();
  if (fits) {
    out = last_.reply.outcomes;
  } else {
    last_.reply.clear();
    stand_in(last_, program.steps.size(), out);
  }
}

bool RemoteSubject::read_image(std::uint64_t gpa, std::uint64_t& word) const {
  const auto& image = last_.reply.image;
  const auto found =
      std::lower_bound(image.begin(), image.end(), gpa,
                       [](const ImageWord& w, std::uint64_t at) { return w.gpa < at; });
  if (found == image.end() || found->gpa != gpa) return false;
  word = found->word;
  return true;
}

}  // namespace twinwalk::remote
