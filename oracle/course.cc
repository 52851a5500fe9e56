#include "oracle/course.h"

#include "oracle/course_walker.h"
#include "oracle/registers.h"
#include "oracle/rules.h"

namespace twinwalk::oracle {

void Course::set(std::uint64_t at, std::uint64_t may, std::uint64_t must) {
  if (may == 0) return;
  const std::uint64_t word = at & ~std::uint64_t{7};
  may <<= 8 * (at & 7);
  must <<= 8 * (at & 7);
  for (unsigned i = 0; i < set_count; ++i) {
    if (sets[i].word != word) continue;
    sets[i].may |= may;
    sets[i].must |= must;
    return;
  }
  if (set_count < kMostSets) sets[set_count++] = {word, may, must};
}

SetBits Course::sets_in(std::uint64_t word) const {
  for (unsigned i = 0; i < set_count; ++i)
    if (sets[i].word == word) return sets[i];
  return {word, 0, 0};
}

namespace walking {

bool CourseWalker::access() {
  const AccessQuery& q = *a_.context.query;
  const PagingMode& mode = *a_.context.rules->mode;
  if (chooser_ != nullptr && !g_.knows_root()) pick_loaded();
  gva_[0] = mode.linear(q.gva);
  const bool crosses = (first_byte(q) & (kPageBytes - 1)) + byte_count(q) > kPageBytes;
  out_.by_page = crosses;
  if (crosses) gva_[1] = mode.linear((first_byte(q) | (kPageBytes - 1)) + 1);
  const bool legal[2] = {mode.canonical(gva_[0]), !crosses || mode.canonical(gva_[1])};
  if (!legal[0] || !legal[1]) return not_canonical(crosses, legal[0] ? 0 : 1, legal);
  out_.parts = crosses ? 2 : 1;
  return crosses ? both_parts() : walk_part(0) != Step::kReject;
}

bool CourseWalker::load(std::uint64_t gpa) {
  out_.by_page = true;
  Use use{format_->read(), false, false, eqx::kRead, with_mbec(~advanced())};
  if (!format_->ept) use = table_use();
  Translation to;
  const Step step = translate(gpa, use, to);
  if (step == Step::kGo) {
    out_.kind = OutcomeKind::kOk;
    out_.hpa[0] = to.hpa;
  }
  return step != Step::kReject;
}

Step CourseWalker::end(OutcomeKind kind, const Rule& rule) {
  out_.kind = kind;
  out_.rule = &rule;
  out_.part = static_cast<std::uint8_t>(part_);
  out_.gva = gva_[part_];
  return Step::kEnd;
}

Step CourseWalker::not_defined(OutcomeKind kind, const Rule& rule) {
  out_.undefined = true;
  out_.defined = 0;
  return end(kind, rule);
}

bool CourseWalker::not_canonical(bool crosses, unsigned half, const bool (&legal)[2]) {
  // The #PF or exit of the canonical half may come first, or not; and that half may have been
  // walked before the #GP.
  const unsigned way = crosses && (legal[0] || legal[1]) ? pick(3) : 0;
  if (way != 0) {
    out_.parts = 2;
    part_ = half;
    const Step step = walk_part(half);
    if (step == Step::kReject || (way == 1) != (step == Step::kEnd && !ends_well())) return false;
    out_.undefined = way == 1;
    out_.rule = &rules::kCrossing;
    if (way == 1) return true;
  }
  out_.parts = 0;
  out_.kind = OutcomeKind::kGp;
  if (way == 0) out_.rule = &rules::kCanonical;
  return true;
}

bool CourseWalker::both_parts() {
  if (walk_part(0) == Step::kReject) return false;
  if (out_.begins_again) return true;
  const Course first = out_;
  if (walk_part(1) == Step::kReject) return false;
  if (out_.begins_again) return true;
  const bool first_ends = first.kind != OutcomeKind::kOk && first.kind != OutcomeKind::kMmio;
  const bool take_first =
      first_ends ? ends_well() || pick(2) == 0 : ends_well() && first.kind == OutcomeKind::kMmio;
  if (!take_first) return true;
  Course whole = out_;
  whole.kind = first.kind;
  whole.rule = first.rule;
  whole.undefined = first.undefined;
  whole.part = first.part;
  whole.gva = first.gva;
  whole.error_code = first.error_code;
  whole.gpa = first.gpa;
  whole.final_address = first.final_address;
  whole.qualification = first.qualification;
  whole.defined = first.defined;
  whole.page_bytes = first.page_bytes;
  out_ = whole;
  return true;
}

}  // namespace walking

GuestAccess make_guest_access(const MachineState& state, unsigned vcpu, const AccessQuery& query) {
  GuestAccess a;
  a.state = &state;
  a.vcpu = vcpu;
  a.context = make_context(state, vcpu, query);
  a.tag = state.vcpu(vcpu).guest.tag(current_pcid(query.registers));
  return a;
}

bool walk_course(const GuestAccess& access, Chooser* chooser, Course& out, CourseNotes* notes) {
  return walking::CourseWalker(access, chooser, out, notes).access();
}

bool walk_pdptes_load(const GuestAccess& access, std::uint64_t gpa, Chooser* chooser, Course& out) {
  return walking::CourseWalker(access, chooser, out, nullptr).load(gpa);
}

}  // namespace twinwalk::oracle
