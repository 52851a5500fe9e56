// The view of a walk in guest mode: each entry of the guest's with the nested walk that led to it.

#include "oracle/course.h"
#include "oracle/make_view.h"

namespace twinwalk::oracle {
namespace {

NestedViewStep open_nested(const NestedFormat& format, const CourseNote& n) {
  NestedViewStep s;
  s.level = n.level;
  s.at = n.at;
  s.index = static_cast<unsigned>(n.gpa >> NestedFormat::shift(n.level) & 511);
  s.entry = s.after = n.entry;
  s.present = format.is_present(n.entry);
  s.misconfigured = s.present && format.misconfigured(n.entry, n.level);
  s.leaf = s.present && format.is_leaf(n.entry, n.level);
  s.format = nested_table(format, n.level, s.leaf);
  return s;
}

// The linear address of part `n` of an access.
std::uint64_t gva_of(const GuestAccess& access, unsigned n) {
  const AccessQuery& q = *access.context.query;
  return access.context.rules->mode->linear(n == 0 ? q.gva
                                                   : (first_byte(q) | (kPageBytes - 1)) + 1);
}

// Puts the notes of a fresh course together: nested entries belong to the guest's entry that comes
// after them, the last ones to none.
class NoteReader final : public CourseNotes {
 public:
  NoteReader(const GuestAccess& access, const NestedFormat& format, WalkView& out)
      : access_(access), format_(format), out_(out) {}

  void note(const CourseNote& n) override {
    while (out_.parts.size() <= n.part) {
      out_.parts.emplace_back();
      rights_ = {};
      nested_ = {};
    }
    if (n.guest) {
      guest(n);
    } else {
      nested(n);
    }
    out_.parts[n.part].nested = nested_;
  }

 private:
  void nested(const CourseNote& n) {
    if (nested_.translates || nested_.steps.empty()) nested_ = {n.gpa, {}, false, kUnknownGpa};
    nested_.steps.push_back(open_nested(format_, n));
    const NestedViewStep& s = nested_.steps.back();
    if (!s.leaf || s.misconfigured) return;
    const std::uint64_t offset = (std::uint64_t{1} << NestedFormat::shift(n.level)) - 1;
    nested_.translates = true;
    nested_.hpa = (format_.frame(n.entry, n.level) & ~offset) | (n.gpa & offset);
  }
  void guest(const CourseNote& n) {
    const EntryRules& rules = *access_.context.rules;
    WalkViewStep step =
        open_entry(rules, gva_of(access_, n.part), n.gpa, n.entry, n.level, rights_);
    step.from_register = n.from_register;
    step.nested = nested_;
    nested_ = {};
    out_.parts[n.part].steps.push_back(step);
  }

  const GuestAccess& access_;
  const NestedFormat& format_;
  WalkView& out_;
  Rights rights_;
  NestedView nested_;
};

void set_flags(NestedView& view, const Course& course) {
  for (NestedViewStep& s : view.steps) s.after = s.entry | course.sets_in(s.at).must;
}

// Of a part that reaches a leaf, what the guest's own dimension makes of its address.
void finish_part(const GuestAccess& access, unsigned n, const Course& course, WalkViewPart& part) {
  const PagingMode& mode = *access.context.rules->mode;
  part.gva = gva_of(access, n);
  for (WalkViewStep& s : part.steps) set_flags(s.nested, course);
  set_flags(part.nested, course);
  part.faults = course.kind == OutcomeKind::kPageFault && course.part == n;
  part.error_code = part.faults ? course.error_code : 0;
  part.rule = course.part == n ? course.rule : nullptr;
  if (!part.steps.empty() && part.steps[0].from_register) {
    const Path path = guest_path(access, part.gva).path;
    part.steps[0].in_memory = path.count != 0 ? path.entry[0] : 0;
    part.steps[0].memory_differs = part.steps[0].in_memory != part.steps[0].entry;
  }
  if (part.steps.empty()) {
    part.translates = mode.levels == 0;
    part.gpa = part.translates ? part.gva : kUnknownGpa;
    return;
  }
  const WalkViewStep& last = part.steps.back();
  part.translates = last.leaf && !last.reserved;
  if (!part.translates) return;
  part.gpa = last.frame | (part.gva & (mode.page_bytes(last.level) - 1));
  part.pkey = static_cast<unsigned>((last.entry & pte::kPkeyMask) >> pte::kPkeyShift);
}

// The guest's entries that a course took from what was cached.
class FormerEntries final : public CourseNotes {
 public:
  FormerEntries(const GuestAccess& access, WalkViewStale& out) : access_(access), out_(out) {}
  void note(const CourseNote& n) override {
    if (!n.guest || n.part != out_.part || n.from_register) return;
    const EntryRules& rules = *access_.context.rules;
    WalkViewStep step =
        open_entry(rules, gva_of(access_, n.part), n.gpa, n.entry, n.level, rights_);
    const std::uint64_t now = access_.state->load_entry(n.at, rules.mode->entry_bytes);
    step.former = ((step.entry ^ now) & ~(pte::kA | pte::kD)) != 0;
    out_.steps.push_back(step);
  }

 private:
  const GuestAccess& access_;
  WalkViewStale& out_;
  Rights rights_;
};

bool tells_same(const WalkViewStale& a, const WalkViewStale& b) {
  return a.part == b.part && a.faults == b.faults && a.error_code == b.error_code && a.gpa == b.gpa;
}

// Courses that end otherwise than the fresh one because something cached was used. Of exits nothing
// more is to be shown than that.
constexpr unsigned kMostCoursesShown = 1u << 12;
void list_stale(const GuestAccess& access, const Course& fresh, WalkView& view) {
  Chooser chooser;
  unsigned n = 0;
  do {
    WalkViewStale stale;
    FormerEntries notes(access, stale);
    Course c;
    const bool goes = walk_course(access, &chooser, c, &notes);
    if (!goes || !c.old || c.undefined || c.begins_again) continue;
    if (c.kind != OutcomeKind::kPageFault && c.kind != OutcomeKind::kOk) continue;
    if (c.kind == fresh.kind && c.error_code == fresh.error_code && c.hpa[0] == fresh.hpa[0])
      continue;
    stale.faults = c.kind == OutcomeKind::kPageFault;
    stale.error_code = c.error_code;
    if (!stale.faults) stale.gpa = c.hpa[0];
    bool known = false;
    for (const WalkViewStale& s : view.stale) known |= tells_same(s, stale);
    if (known) continue;
    if (view.stale.size() == kMaxStaleViews) {
      view.more_stale = true;
      return;
    }
    view.stale.push_back(stale);
  } while (chooser.advance() && ++n < kMostCoursesShown && !chooser.too_long());
}

}  // namespace

WalkView make_guest_view(const MachineState& state, unsigned vcpu, const AccessQuery& query) {
  const GuestAccess access = make_guest_access(state, vcpu, query);
  const NestedFormat& format = state.vcpu(vcpu).guest.nested().format;
  WalkView view;
  view.second = format.ept ? Nesting::kEpt : Nesting::kNpt;
  view.mode = access.context.rules->mode->mode;
  NoteReader notes(access, format, view);
  Course course;
  walk_course(access, nullptr, course, &notes);
  view.fresh = outcome_of(access, course);
  view.rule = course.rule;
  for (unsigned i = 0; i < view.parts.size(); ++i) finish_part(access, i, course, view.parts[i]);
  list_stale(access, course, view);
  return view;
}

}  // namespace twinwalk::oracle
