#include "oracle/walk_view.h"

#include "oracle/make_view.h"
#include "oracle/rules.h"

namespace twinwalk::oracle {
namespace {

// Opens one entry; `rights` accumulates.
WalkViewStep open_entry(const EntryRules& rules, std::uint64_t gpa, std::uint64_t entry,
                        unsigned level, Rights& rights) {
  WalkViewStep s;
  s.level = level;
  s.table_gpa = gpa & ~(kPageBytes - 1);
  s.index = static_cast<unsigned>((gpa & (kPageBytes - 1)) / rules.mode->entry_bytes);
  s.entry = entry;
  if (!(entry & pte::kP)) return s;
  s.leaf = rules.is_leaf(entry, level);
  s.reserved_bits = entry & (s.leaf ? rules.leaf : rules.table)[level];
  s.reserved = s.reserved_bits != 0;
  rights.take(entry);
  s.writable = rights.writable();
  s.user = rights.user();
  s.executable = rights.executable();
  return s;
}

WalkViewPart open_part(const AccessContext& context, const AccessPart& part) {
  WalkViewPart view;
  view.gva = part.gva;
  Rights rights;
  const Walk& w = part.walk;
  for (unsigned i = 0; i < w.count; ++i) {
    view.steps.push_back(open_entry(*context.rules, w.entry_gpa[i], w.entry[i],
                                    context.rules->mode->levels - i, rights));
  }
  view.table_without_memory = w.stop == Stop::kNoMemory;
  view.translates = w.stop == Stop::kLeaf;
  if (view.translates) {
    view.gpa = w.gpa;
    view.pkey = w.rights.key;
  }
  view.faults = part.faults;
  view.error_code = part.faults ? part.error_code : 0;
  view.rule = &deciding_rule(context, part);
  return view;
}

class StaleCollector final : public StaleVisitor {
 public:
  StaleCollector(const StaleQuery& query, unsigned part, const WalkViewPart& fresh, WalkView& out)
      : query_(query), part_(part), fresh_(fresh), out_(out) {}

  bool visit(const StaleWalk& w) override {
    if (known(w)) return false;
    if (out_.stale.size() == kMaxStaleViews) {
      out_.more_stale = true;
      return true;
    }
    WalkViewStale view;
    view.part = part_;
    view.root = w.root;
    view.faults = w.faults;
    view.error_code = w.error_code;
    if (!w.faults) view.gpa = w.gpa;
    Rights rights;
    for (unsigned i = 0; i < w.count; ++i) {
      WalkViewStep step = open_entry(*query_.rules_cached, w.entry_gpa[i], w.entry[i],
                                     query_.rules_now->mode->levels - i, rights);
      step.former = w.old[i];
      if (w.old[i]) step.former_until = w.left_at[i];
      view.steps.push_back(step);
    }
    out_.stale.push_back(std::move(view));
    return false;
  }

 private:
  // An outcome that the fresh walk or an earlier combination gives too.
  bool known(const StaleWalk& w) const {
    if (w.faults ? fresh_.faults && fresh_.error_code == w.error_code
                 : !fresh_.faults && fresh_.gpa == w.gpa) {
      return true;
    }
    for (const WalkViewStale& s : out_.stale) {
      if (s.part != part_ || s.faults != w.faults) continue;
      if (w.faults ? s.error_code == w.error_code : s.gpa == w.gpa) return true;
    }
    return false;
  }

  const StaleQuery& query_;
  unsigned part_;
  const WalkViewPart& fresh_;
  WalkView& out_;
};

}  // namespace

WalkView make_view(const MachineState& state, unsigned vcpu, const AccessQuery& query) {
  WalkView view;
  const AccessContext context = make_context(state, vcpu, query);
  FreshAccess fresh;
  fresh_access(state, context, fresh);
  view.fresh = to_outcome(context, fresh);
  for (unsigned i = 0; i < fresh.parts; ++i)
    view.parts.push_back(open_part(context, fresh.part[i]));
  if (fresh.kind == OutcomeKind::kGp) {
    view.rule = &rules::kCanonical;
  } else if (fresh.kind == OutcomeKind::kMmio) {
    view.rule = &rules::kVirtual29;
  } else {
    view.rule = view.parts[fresh.which].rule;
  }
  for (unsigned i = 0; i < fresh.parts; ++i) {
    const StaleQuery stale = make_stale_query(state, context, fresh.part[i].gva);
    StaleCollector collector(stale, i, view.parts[i], view);
    search_stale(stale, collector);
  }
  return view;
}

}  // namespace twinwalk::oracle
