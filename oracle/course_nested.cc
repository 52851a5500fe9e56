// The second dimension of a course: a guest-physical address through EPT or NPT.

#include <algorithm>

#include "oracle/course_walker.h"
#include "oracle/rules.h"

namespace twinwalk::oracle::walking {
namespace {

constexpr unsigned kMostNestedWays = 1u << 10;

}  // namespace

std::uint64_t CourseWalker::pick_nested_root() {
  if (format_->ept) return root_;
  const Time window = a_.ignore_windows ? 0 : g_.guest_physical(a_.tag).time;
  const NestedRoot* usable[8];
  unsigned n = 0;
  for (const NestedRoot& r : g_.nested_roots()) {
    if (r.asid != a_.tag.vpid || r.end == kStillThere || r.end <= window || r.root == root_)
      continue;
    if (n < 8) usable[n++] = &r;
  }
  const unsigned i = inner_->pick(n + 1);
  return i == 0 ? root_ : usable[i - 1]->root;
}

Use CourseWalker::table_use() const {
  if (!format_->ept) {
    return {format_->table_access(), true, true, npfec::kTable | pfec::kW | pfec::kU,
            ~std::uint64_t{0}};
  }
  const std::uint64_t tried = format_->flags ? eqx::kRead | eqx::kWrite : eqx::kRead;
  return {format_->table_access(), format_->flags, true, tried | eqx::kGvaValid,
          with_mbec(~advanced())};
}

Use CourseWalker::final_use(const Rights& rights, bool paging) const {
  const AccessKind kind = query().kind;
  const bool fetch = kind == AccessKind::kFetch, store = stores(kind);
  const bool user = !paging || rights.user();
  Use use;
  use.write = store;
  use.needs = fetch ? format_->fetch(user) : store ? format_->write() : format_->read();
  if (format_->ept && kind == AccessKind::kWrite) use.needs.all = ept::kW;
  if (!format_->ept) {
    use.says =
        npfec::kFinal | pfec::kU | (store ? pfec::kW : 0) | (fetch && format_->nxe ? pfec::kI : 0);
    return use;
  }
  use.says = eqx::kGvaValid | eqx::kFinal |
             (fetch   ? eqx::kFetch
              : store ? eqx::kWrite
                      : eqx::kRead);
  use.defined = with_mbec(use.defined);
  if (kind == AccessKind::kRmw) use.defined &= ~eqx::kRead;
  if (machine().tdp & tdp::kAdvanced) {
    const Controls c = a_.context.controls();
    if (user) use.says |= eqx::kGuestUser;
    if (!paging || rights.writable()) use.says |= eqx::kGuestWritable;
    if (paging && c.nxe && !rights.executable()) use.says |= eqx::kGuestNx;
  } else {
    use.defined &= ~advanced();
  }
  return use;
}

Step CourseWalker::exit(std::uint64_t gpa, const Use& use, const Rights* rights, bool reserved,
                        bool walked_old, bool combined_only) {
  // Only the translation of a linear address comes from a combined mapping.
  if (combined_only && (use.table || !(use.says & eqx::kGvaValid))) return Step::kReject;
  out_.gpa = gpa;
  out_.final_address = !use.table && (use.says & (format_->ept ? eqx::kFinal : npfec::kFinal));
  if (!format_->ept) {
    out_.begins_again = walked_old;
    out_.qualification =
        use.says | (rights != nullptr || reserved ? pfec::kP : 0) | (reserved ? pfec::kRsvd : 0);
    out_.defined = use.defined;
    return end(OutcomeKind::kNestedFault, reserved            ? rules::kNptReserved
                                          : rights == nullptr ? rules::kNpt
                                          : use.table         ? rules::kNptTables
                                                              : rules::kNptRights);
  }
  if (reserved) return end(OutcomeKind::kEptMisconfig, rules::kEptMisconfig);
  out_.qualification = use.says;
  if (rights != nullptr) {
    const std::uint64_t every = rights->every;
    if (every & ept::kR) out_.qualification |= eqx::kReadable;
    if (every & ept::kW) out_.qualification |= eqx::kWritable;
    if (every & ept::kX) out_.qualification |= eqx::kExecutable;
    if (format_->mbec && (every & ept::kUx)) out_.qualification |= eqx::kUserExecutable;
  }
  out_.defined = use.defined;
  return end(OutcomeKind::kEptViolation, rights == nullptr ? rules::kEptPresent
                                         : use.table       ? rules::kEptTables
                                                           : rules::kEptRights);
}

Choice CourseWalker::choose_nested(const Memslot& slot, std::uint64_t at, unsigned level,
                                   std::uint64_t gpa, bool flags, bool write, Time& combined_only) {
  const std::uint64_t hva = Memslots::hva_of(slot, at);
  const std::uint64_t now = s_.memory().image().load(hva);
  const std::uint64_t ad = format_->accessed | format_->dirty;
  const bool plain = format_->is_plain(level);
  const Time window = a_.ignore_windows ? 0 : g_.guest_physical(a_.tag).time;
  const Time violated = a_.ignore_windows ? 0 : g_.violation(a_.tag, gpa).time;
  const Time unflagged = flags && format_->ept ? g_.without_flags(root_) : 0;
  // Cached while A and D were not looked at.
  const auto without_flags = [&](const Version& v) {
    return unflagged > std::max(window, v.begin);
  };
  const auto flagged = [&](std::uint64_t v) { return !flags || plain || (v & format_->accessed); };
  const auto cacheable = [&](const Version& v) {
    return format_->is_present(v.value) && !format_->misconfigured(v.value, level) &&
           (flagged(v.value) || without_flags(v));
  };
  // Of what refers to a table D says nothing.
  const auto complete = [&](std::uint64_t v) {
    const bool store = flags && !plain && write && format_->is_leaf(v, level);
    return flagged(v) && (!store || (v & format_->dirty));
  };
  // Beyond a violation at that gpa only in combined mappings made before.
  const auto survives = [&](Time end) {
    return end > violated || (violated > local_ && prefix_.latest_begin <= violated);
  };
  const std::uint64_t settled = now & ~s_.open_bits(at);
  Choices choices(now, s_.now());
  Time previous = kStillThere;  // begin of the version looked at before, where it is contiguous
  for (const Version* v = s_.memory().image().newest(hva); v != nullptr;
       v = s_.memory().image().older(*v)) {
    Choice& last = choices.newest();
    if (v->end == kStillThere) {
      if (!cacheable(*v)) continue;
      last.begin = previous = v->begin;
      if (!complete(settled) && without_flags(*v) && survives(unflagged))
        choices.add({v->value, v->begin, unflagged, true, true});
      continue;
    }
    if (v->end <= window) break;
    if (!cacheable(*v)) continue;
    const bool serves = last.without_flags || complete(last.old ? last.value : settled);
    if (v->end == previous && ((v->value ^ last.value) & ~ad) == 0 && serves) {
      last.begin = previous = v->begin;
      continue;
    }
    const Time without = std::min(v->end, unflagged);
    if (!complete(v->value) && without_flags(*v) && survives(without)) {
      if (!choices.add({v->value, v->begin, without, true, true})) break;
      previous = v->begin;
    }
    if (flagged(v->value) && survives(v->end)) {
      if (!choices.add({v->value, v->begin, v->end, true})) break;
      previous = v->begin;
    }
  }
  Choice c = choices[inner_->pick(choices.count())];
  if (c.old && c.end <= violated) combined_only = violated;
  // Where A or D is open that is something else to the second dimension.
  if (!c.old && settled != now && format_->is_present(now) &&
      format_->misconfigured(now, level) != format_->misconfigured(settled, level)) {
    c.doubted = now ^ settled;
    if (inner_->pick(2) == 1) c.value = settled;
  }
  return c;
}

void CourseWalker::note_dropped(DroppedStructures& dropped, const Choice& c, unsigned level,
                                std::uint64_t gpa) const {
  if (a_.ignore_windows) return;
  const std::uint64_t bytes = std::uint64_t{1} << NestedFormat::shift(level);
  const Time violated = g_.violation_within(a_.tag, gpa, bytes).time;
  dropped.kept_below(violated);
  if (c.old && c.end <= violated) dropped.add(violated, c.end);
}

template <bool kFresh>
bool CourseWalker::walk_nested(std::uint64_t gpa, const Use& use, NestedWay& w) {
  NestedNeeds needs = use.needs;
  w.flags = format_->flags;
  if (!kFresh && w.flags && format_->ept) {
    // Cached while the same tables were used without A and D flags.
    const Time window = a_.ignore_windows ? 0 : g_.guest_physical(a_.tag).time;
    if (g_.without_flags(root_) > window && inner_->pick(2) == 1) {
      w.flags = false;
      w.old = true;
      if (use.table) needs = format_->read();
    }
  }
  std::uint64_t table = kFresh ? root_ : pick_nested_root();
  w.old |= table != root_;
  Time latest = kFresh ? 0 : g_.first_use(a_.tag, table);
  DroppedStructures dropped;
  for (unsigned level = format_->levels;; --level) {
    const std::uint64_t entry_at = format_->entry_at(table, gpa, level);
    const Memslot* slot = s_.memory().slots().find(entry_at);
    w.latest = latest;
    if (slot == nullptr) return w.end = NestedWay::End::kNoTable, true;
    const Choice c = kFresh
                         ? Choice{s_.memory().image().load(Memslots::hva_of(*slot, entry_at))}
                         : choose_nested(*slot, entry_at, level, gpa, w.flags, use.write, w.before);
    note({false, !use.table, static_cast<std::uint8_t>(part_), static_cast<std::uint8_t>(level),
          false, gpa, entry_at, c.value});
    w.add_doubt({entry_at, c.doubted, (c.value & c.doubted) != 0});
    if (!kFresh && !dropped.goes_on_with(c.begin)) return false;
    if (c.old) {
      if (c.end < latest) return false;
      w.old = true;
    } else if (!format_->is_present(c.value)) {
      return w.end = NestedWay::End::kNotPresent, true;
    } else if (format_->misconfigured(c.value, level)) {
      return w.end = NestedWay::End::kBad, true;
    }
    latest = w.latest = std::max(latest, c.begin);
    const bool plain = format_->is_plain(level);
    if (!plain) w.rights.take(c.value);
    const bool leaf = format_->is_leaf(c.value, level);
    if (w.flags && !plain && !c.old) {
      // A and D may have been set on the way here.
      const std::uint64_t settled =
          (c.value & ~s_.open_bits(entry_at)) | out_.sets_in(entry_at).must;
      const std::uint64_t wants = format_->accessed | (leaf && use.write ? format_->dirty : 0);
      w.add_due(entry_at, wants & ~settled);
    }
    table = format_->frame(c.value, level);
    if (!leaf) {
      if (!kFresh && (c.old || dropped.any())) note_dropped(dropped, c, level, gpa);
      continue;
    }
    // All of what a combined mapping has was there when it was made.
    if (w.before != kStillThere && latest > w.before) return false;
    if ((~w.rights.every & needs.all) | (w.rights.any & needs.none)) {
      w.drop_due(entry_at, format_->dirty);
      return w.end = NestedWay::End::kDenied, true;
    }
    // A store through a cached translation without D walks the tables again first.
    if (c.old && w.flags && use.write && !(c.value & format_->dirty) && !c.without_flags)
      return false;
    const std::uint64_t offset = (std::uint64_t{1} << NestedFormat::shift(level)) - 1;
    w.hpa = (table & ~offset) | (gpa & offset);
    w.leaf_at = entry_at;
    return true;
  }
}

std::uint64_t CourseWalker::telling_rights(const Use& use, const NestedWay& w) const {
  if (!format_->ept) return 0;
  constexpr std::uint64_t kAll = ept::kR | ept::kW | ept::kX | ept::kUx;
  if (w.end == NestedWay::End::kDenied) return kAll;
  if (w.end != NestedWay::End::kHpa || !use.table || format_->flags) return 0;
  // Without W an update of the guest's entry exits, and says what is allowed (pending_exit).
  return w.rights.every & ept::kW ? ept::kW : kAll;
}

Step CourseWalker::translate(std::uint64_t gpa, const Use& use, Translation& to) {
  if (!format_->translates(gpa)) {
    out_.gpa = gpa;
    return not_defined(format_->ept ? OutcomeKind::kEptViolation : OutcomeKind::kNestedFault,
                       rules::kGpaWidth);
  }
  if (chooser_ == nullptr) {
    NestedWay only;
    walk_nested<true>(gpa, use, only);
    return follow(gpa, use, only, to);
  }
  Chooser inner;
  inner_ = &inner;
  NestedWays ways;
  unsigned looked_at = 0;
  do {
    NestedWay w;
    if (walk_nested<false>(gpa, use, w) && !ways.add(w, telling_rights(use, w))) break;
  } while (inner.advance() && ++looked_at < kMostNestedWays && !inner.too_long());
  inner_ = nullptr;
  if (inner.unfinished()) chooser_->give_up();
  if (ways.count() == 0) return Step::kReject;
  return follow(gpa, use, ways[pick(ways.count())], to);
}

Step CourseWalker::follow(std::uint64_t gpa, const Use& use, const NestedWay& w, Translation& to) {
  out_.old |= w.old;
  to.old = w.old;
  to.rights = w.rights;
  to.hpa = w.hpa;
  to.before = w.before;
  const bool by_combined = w.before != kStillThere;
  for (unsigned i = 0; i < w.doubt_count; ++i) out_.doubt(w.doubts[i]);
  switch (w.end) {
    case NestedWay::End::kNoTable:
      out_.gpa = gpa;
      return not_defined(format_->ept ? OutcomeKind::kEptViolation : OutcomeKind::kNestedFault,
                         rules::kTableMmio);
    case NestedWay::End::kNotPresent:
    case NestedWay::End::kBad:
      set_flags(w);
      return exit(gpa, use, nullptr, w.end == NestedWay::End::kBad, w.old, by_combined);
    case NestedWay::End::kDenied:
      set_flags(w);
      return exit(gpa, use, &w.rights, false, w.old, by_combined);
    case NestedWay::End::kHpa:
      break;
  }
  prefix_.latest_begin = std::max(prefix_.latest_begin, w.latest);
  return format_->ept && w.flags && (machine().tdp & tdp::kPml) ? log(gpa, w) : set_flags(w);
}

Step CourseWalker::set_flags(const NestedWay& w) {
  for (unsigned i = 0; i < w.count; ++i) out_.set(w.due[i].at, w.due[i].may, w.due[i].must);
  return Step::kGo;
}

Step CourseWalker::log(std::uint64_t gpa, const NestedWay& w) {
  if (w.count == 0) return Step::kGo;
  const unsigned certain = g_.certain_in_log() + out_.logged_count;
  const auto at_most = static_cast<unsigned>(g_.log.size()) + out_.logged_count;
  // Flags that are open may be set already, and of what is cached none is.
  bool open = false;
  std::uint64_t dirty_may = 0, dirty_must = 0;
  for (unsigned i = 0; i < w.count; ++i) {
    const NestedWay::Due& d = w.due[i];
    const std::uint64_t sure = d.must & ~s_.open_bits(d.at);
    open |= sure != d.may;
    if (d.at == w.leaf_at) dirty_may = d.may & ept::kD, dirty_must = sure & ept::kD;
  }
  const bool may_be_full = at_most >= kPmlEntries, full = certain >= kPmlEntries;
  if (may_be_full && !open) {
    const bool exits = full || pick(2) == 1;
    if (exits) return end(OutcomeKind::kPmlFull, rules::kPml);
  } else if (may_be_full && pick(2) == 0) {
    return end(OutcomeKind::kPmlFull, rules::kPml);
  }
  if (dirty_may != 0) {
    const bool was_clear = dirty_must != 0 || pick(2) == 0;
    if (was_clear && out_.logged_count < Course::kMostLogged)
      out_.logged[out_.logged_count++] = gpa & ~(kPageBytes - 1);
  }
  return set_flags(w);
}

}  // namespace twinwalk::oracle::walking
