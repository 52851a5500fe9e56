#include "oracle/walk_view.h"

#include "oracle/make_view.h"
#include "oracle/rules.h"

namespace twinwalk::oracle {
WalkViewStep open_entry(const EntryRules& rules, std::uint64_t gva, std::uint64_t gpa,
                        std::uint64_t entry, unsigned level, Rights& rights) {
  WalkViewStep s;
  s.level = level;
  s.index = static_cast<unsigned>(rules.mode->index_of(gva, level));
  s.table_gpa = gpa - std::uint64_t{s.index} * rules.mode->entry_bytes;
  s.entry_gpa = gpa;
  s.entry = entry;
  s.format = format_table(*rules.mode, level, false);
  if (!(entry & pte::kP)) return s;
  s.leaf = rules.is_leaf(entry, level);
  s.frame = rules.frame(entry, level);
  s.format = format_table(*rules.mode, level, s.leaf);
  s.reserved_bits = rules.reserved_bits(entry, level);
  s.reserved = s.reserved_bits != 0;
  if (!rules.is_plain(level)) rights.take(entry);
  s.writable = rights.writable();
  s.user = rights.user();
  s.executable = rights.executable();
  return s;
}

namespace {

void open_register(const GuestMemory& memory, WalkViewStep& s) {
  s.from_register = true;
  const bool readable = memory.read(s.entry_gpa, s.in_memory);
  s.memory_differs = !readable || s.in_memory != s.entry;
}

WalkViewPart open_part(const MachineState& state, const AccessContext& context,
                       const AccessPart& part) {
  WalkViewPart view;
  view.gva = part.gva;
  Rights rights;
  const Walk& w = part.walk;
  for (unsigned i = 0; i < w.count; ++i) {
    view.steps.push_back(open_entry(*context.rules, part.gva, w.entry_gpa[i], w.entry[i],
                                    context.rules->mode->levels - i, rights));
    if (i < w.plain && context.root.pdptes != nullptr)
      open_register(state.memory(), view.steps.back());
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
      const EntryRules& rules = query_.rule_book->at(w.row, query_.nxe_was_on);
      WalkViewStep step =
          open_entry(rules, query_.gva, w.entry_gpa[i], w.entry[i], rules.mode->levels - i, rights);
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
  view.mode = context.rules->mode->mode;
  view.fresh = to_outcome(context, fresh);
  for (unsigned i = 0; i < fresh.parts; ++i)
    view.parts.push_back(open_part(state, context, fresh.part[i]));
  if (fresh.kind == OutcomeKind::kGp) {
    view.rule = &rules::kCanonical;
  } else if (fresh.kind == OutcomeKind::kMmio) {
    view.rule = &rules::kVirtual29;
  } else if (wraps(fresh)) {
    view.rule = &rules::kWrap;
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
