// A course through the guest's own tables.

#include <algorithm>

#include "oracle/course_walker.h"
#include "oracle/registers.h"
#include "oracle/rules.h"

namespace twinwalk::oracle::walking {

Step CourseWalker::walk_part(unsigned part) {
  part_ = part;
  prefix_ = {};
  pendings_ = 0;
  guest_count_ = 0;
  const std::uint64_t gva = gva_[part];
  local_ = global_ = structures_ = 0;
  const Registers& r = query().registers;
  const bool pge = r.cr4 & cr4::kPge;
  if (chooser_ != nullptr && !a_.ignore_windows) {
    local_ = g_.translation(a_.tag, gva).time;
    global_ = pge ? g_.global_translation(a_.tag, gva).time : local_;
    structures_ = g_.structures(a_.tag, gva).time;
  }
  WalkRoot root = a_.context.root;
  now_ = cached_ = a_.context.rules;
  if (chooser_ != nullptr) pick_root(root, pge);
  const PagingMode& mode = *now_->mode;
  if (mode.levels == 0) return without_paging(mode.linear(gva));
  return descend(root, gva, pge);
}

void CourseWalker::pick_loaded() {
  std::uint8_t n = 0;
  for (const GuestRoot& u : g_.roots())
    if (u.perhaps && u.end == kStillThere && n < kMostLoaded) ++n;
  out_.loaded = static_cast<std::uint8_t>(pick(n + 1u));
  unsigned left = out_.loaded;
  for (const GuestRoot& u : g_.roots())
    if (left != 0 && u.perhaps && u.end == kStillThere && --left == 0) loaded_ = &u;
}

void CourseWalker::pick_root(WalkRoot& root, bool pge) {
  const bool nxe = query().registers.efer & efer::kNxe;
  cached_ = &s_.rule_book().at(row_of(query().registers), s_.vcpu(a_.vcpu).nxe_was_on);
  const GuestRoot* usable[16];
  unsigned n = 0;
  for (const GuestRoot& u : g_.roots()) {
    if (u.end == kStillThere && u.perhaps == (loaded_ != nullptr)) prefix_.latest_begin = u.begin;
    if (u.end == kStillThere || u.tag.vpid != a_.tag.vpid || u.tag.ep4ta != a_.tag.ep4ta) continue;
    const bool same = u.tag.pcid == a_.tag.pcid;
    if (same ? u.end <= std::min(local_, global_) : !pge || u.end <= global_) continue;
    if (n < 16) usable[n++] = &u;
  }
  const unsigned i = pick(n + 1);
  if (i == 0) {
    if (loaded_ != nullptr) root.pdptes = &loaded_->root.pdptes;
    return;
  }
  const GuestRoot& u = *usable[i - 1];
  root = {u.root.cr3, s_.latches_pdptes() ? &u.root.pdptes : nullptr};
  now_ = &s_.rule_book().at(u.root.row, nxe);
  cached_ = &s_.rule_book().at(u.root.row, s_.vcpu(a_.vcpu).nxe_was_on);
  prefix_.latest_begin = u.begin;
  prefix_.oldest_end = prefix_.oldest_upper = u.end;
  prefix_.old_guest = out_.old = true;
  prefix_.foreign_root = u.tag.pcid != a_.tag.pcid;
}

Step CourseWalker::without_paging(std::uint64_t gpa) {
  if (prefix_.old_guest && (prefix_.foreign_root || prefix_.oldest_end <= local_))
    return Step::kReject;
  return land(gpa, false);
}

Choice CourseWalker::choose_guest(const Memslot& slot, std::uint64_t at, unsigned level,
                                  bool needs_dirty) {
  const unsigned bytes = now_->mode->entry_bytes;
  const std::uint64_t hva = Memslots::hva_of(slot, at);
  const std::uint64_t now = s_.load_entry(at, bytes);
  if (chooser_ == nullptr) return {now, 0, kStillThere, false};
  const bool plain = now_->is_plain(level);
  const auto cacheable = [&](std::uint64_t v) {
    return (v & pte::kP) && (plain || (v & pte::kA)) && !cached_->reserved(v, level);
  };
  const auto complete = [&](std::uint64_t v) {
    return (v & pte::kA) && (!needs_dirty || (v & pte::kD));
  };
  // XD is reserved with EFER.NXE=0; what was cached before it went to 0 nothing invalidates.
  const auto until = [&](std::uint64_t v, Time end) {
    return now_->reserved(v, level) ? std::min(end, s_.vcpu(a_.vcpu).nxe_left) : end;
  };
  const std::uint64_t settled = now & ~s_.open_bits(at);
  Choices choices(now, s_.now());
  Time previous = kStillThere;
  EntryPast past(s_.memory().image(), hva, bytes);
  Version v;
  const Time window = std::min(local_, global_);
  while (past.next(v)) {
    Choice& last = choices.newest();
    if (v.end == kStillThere) {
      if (!cacheable(v.value)) continue;
      last.begin = previous = v.begin;
      const Time end = until(v.value, kStillThere);
      if (end != kStillThere && end > std::max(window, v.begin))
        choices.add({v.value, v.begin, end, true});
      continue;
    }
    if (v.end <= window) break;
    const Time end = until(v.value, v.end);
    if (!cacheable(v.value) || end <= std::max(window, v.begin)) continue;
    if (v.end == previous && ((v.value ^ last.value) & ~(pte::kA | pte::kD)) == 0 &&
        complete(last.old ? last.value : settled)) {
      last.begin = previous = v.begin;
      continue;
    }
    if (!choices.add({v.value, v.begin, end, true})) break;
    previous = v.begin;
  }
  Choice c = choices[pick(choices.count())];
  // As in a PDPTE, or what EPT may have set where it is not the guest's A or D.
  if (!c.old && settled != now && (now & pte::kP) &&
      now_->reserved(now, level) != now_->reserved(settled, level)) {
    c.doubted = now ^ settled;
    if (pick(2) == 1) c.value = settled;
  }
  return c;
}

bool CourseWalker::fault_by_structures() const {
  if (!prefix_.old_guest) return true;
  return !prefix_.foreign_root && prefix_.oldest_end > local_ && prefix_.oldest_upper > structures_;
}

// A combined paging-structure entry holds where the table lies, whatever a violation at its address
// has dropped since: what the table has now is read there. SDM 3C §"Information That May Be
// Cached", §"Operations that Invalidate Cached Mappings". Of the first table there is none.
bool CourseWalker::kept_by_structures(Time above, Time violated) const {
  return guest_count_ != 0 && above <= violated && structures_ < violated;
}

Step CourseWalker::page_fault(std::uint32_t error_code, const Rule& rule,
                              std::uint64_t page_bytes) {
  if (prefix_.old_guest && s_.profile() == Profile::kKvm) return Step::kReject;
  out_.begins_again = prefix_.old_guest && amd();
  // Which comes first, this or the exit of an update of A above, is open.
  const unsigned i = pick(1 + pendings_);
  if (i != 0) return pending_exit(i - 1);
  out_.error_code = error_code;
  out_.page_bytes = page_bytes;
  return end(OutcomeKind::kPageFault, rule);
}

Step CourseWalker::no_table(std::uint32_t error_code) {
  out_.error_code = error_code;
  return not_defined(OutcomeKind::kPageFault, rules::kTableMmio);
}

Step CourseWalker::pending_exit(unsigned i) {
  Use use{{}, false, true, eqx::kWrite | eqx::kGvaValid, with_mbec(~advanced()) & ~eqx::kRead};
  if (pending_[i].old && pick(2) == 1) {
    // What the entry was read through may be kept with combined mappings alone: the write is
    // translated anew. Where it succeeds, so does reading, and another course has it.
    use.needs.all = ept::kW;
    Translation to;
    const Step step = translate(pending_[i].gpa, use, to);
    return step == Step::kGo ? Step::kReject : step;
  }
  return exit(pending_[i].gpa, use, &pending_[i].rights, false, false, false);
}

void CourseWalker::set_guest_flags(bool dirty) {
  for (unsigned i = 0; i < guest_count_; ++i) {
    const bool leaf = i + 1 == guest_count_ && dirty;
    const std::uint64_t bits = guest_due_[i] & (leaf ? pte::kA | pte::kD : pte::kA);
    out_.set(guest_at_[i], bits, bits);
  }
}

Step CourseWalker::descend(const WalkRoot& root, std::uint64_t gva, bool pge) {
  const PagingMode& mode = *now_->mode;
  std::uint64_t table = root.cr3 & mode.root_mask;
  unsigned level = mode.levels;
  const std::uint32_t tried = attempt_bits(a_.context.controls(), query().kind);
  if (mode.plain_entries != 0 && root.pdptes != nullptr) {
    const unsigned index = static_cast<unsigned>(gva >> 30) & 3;
    const std::uint64_t entry = root.pdptes->entry[index];
    note({true, false, static_cast<std::uint8_t>(part_), 3, true, gpa_of_pdpte(root.cr3, index), 0,
          entry});
    if (!root.pdptes->known) return no_table(tried);
    if (!(entry & pte::kP))
      return fault_by_structures() ? page_fault(tried, rules::kPresent, kPageBytes) : Step::kReject;
    table = now_->frame(entry, 3);
    --level;
  }
  for (;; --level) {
    const std::uint64_t gpa = mode.entry_gpa(table, gva, level);
    Translation to;
    const Time above = prefix_.latest_begin;
    const Step step = translate(gpa, table_use(), to);
    if (step != Step::kGo) {
      if (step == Step::kReject || !fault_by_structures()) return Step::kReject;
      set_guest_flags(false);
      if (out_.kind == OutcomeKind::kPmlFull || out_.undefined) return step;
      const unsigned i = pick(1 + pendings_);
      return i == 0 ? step : pending_exit(i - 1);
    }
    const Memslot* slot = s_.memory().slots().find(to.hpa);
    if (slot == nullptr) return no_table(tried);
    const bool store = stores(query().kind);
    const Choice c = choose_guest(*slot, to.hpa, level, store);
    note({true, false, static_cast<std::uint8_t>(part_), static_cast<std::uint8_t>(level), false,
          gpa, to.hpa, c.value});
    out_.doubt({to.hpa, c.doubted, (c.value & c.doubted) != 0});
    if (to.before != kStillThere && c.begin > to.before && !kept_by_structures(above, to.before))
      return Step::kReject;
    if (c.old) {
      if (c.end < prefix_.latest_begin) return Step::kReject;
      prefix_.old_guest = out_.old = true;
      prefix_.cached_xd |= now_->reserved(c.value, level);
    } else if (!(c.value & pte::kP)) {
      if (!fault_by_structures()) return Step::kReject;
      set_guest_flags(false);
      return page_fault(tried, rules::kPresent, kPageBytes);
    } else if (now_->reserved(c.value, level)) {
      if (!fault_by_structures()) return Step::kReject;
      set_guest_flags(false);
      return page_fault(tried | pfec::kP | pfec::kRsvd, rules::kReserved, kPageBytes);
    }
    const bool plain = now_->is_plain(level);
    const EntryRules& rules = c.old ? *cached_ : *now_;
    if (!plain) prefix_.rights.take(c.value);
    prefix_.latest_begin = std::max(prefix_.latest_begin, c.begin);
    prefix_.oldest_end = std::min(prefix_.oldest_end, c.end);
    const bool leaf = rules.is_leaf(c.value, level);
    std::uint64_t due = 0;
    if (!plain && !c.old) {
      const std::uint64_t wants = pte::kA | (leaf && store ? pte::kD : 0);
      due = wants & ~(c.value & ~s_.open_bits(to.hpa));
      note_pending(gpa, to, wants & ~c.value, due);
    }
    guest_at_[guest_count_] = to.hpa;
    guest_due_[guest_count_++] = due;
    if (leaf) return leaf_reached(c, level, gva, pge);
    if (c.old) prefix_.oldest_upper = std::min(prefix_.oldest_upper, c.end);
    table = rules.frame(c.value, level);
  }
}

void CourseWalker::note_pending(std::uint64_t gpa, const Translation& to, std::uint64_t certain,
                                std::uint64_t due) {
  if (due == 0 || !format_->ept || format_->flags || (to.rights.every & ept::kW)) return;
  if (certain == 0 && pick(2) == 0) return;
  pending_[pendings_++] = {gpa, to.rights, to.old};
}

Step CourseWalker::leaf_reached(const Choice& c, unsigned level, std::uint64_t gva, bool pge) {
  if (prefix_.old_guest) {
    const bool global = pge && (c.value & pte::kG);
    if (prefix_.foreign_root && !global) return Step::kReject;
    // By structures of its own PCID a page may be found again that INVLPG has dropped as a global
    // one under another: SDM 3A §"Operations that Invalidate TLBs and Paging-Structure Caches".
    const Time window = global ? global_ : local_;
    const bool found_again = global && !prefix_.foreign_root && s_.profile() != Profile::kKvm &&
                             c.end > window && prefix_.oldest_upper > structures_;
    if (prefix_.oldest_end <= window && !found_again) return Step::kReject;
    if (!global && prefix_.oldest_upper <= structures_ && prefix_.latest_begin >= structures_)
      return Step::kReject;
  }
  const EntryRules& rules = c.old ? *cached_ : *now_;
  const std::uint64_t bytes = rules.mode->page_bytes(level);
  prefix_.rights.key = static_cast<std::uint8_t>((c.value & pte::kPkeyMask) >> pte::kPkeyShift);
  const RightsCheck check = check_rights(a_.context.controls(), query().kind, prefix_.rights);
  if (!check.pass) {
    set_guest_flags(false);
    return page_fault(check.error_code, rules::kRights, bytes);
  }
  const bool lacks_dirty = c.old && stores(query().kind) && !(c.value & pte::kD);
  if (lacks_dirty && !format_->ept) return Step::kReject;
  // Whether what was cached with XD still denies fetches is open.
  if (prefix_.cached_xd && query().kind == AccessKind::kFetch && pick(2) == 1) {
    set_guest_flags(false);
    return page_fault(pfec::kP | attempt_bits(a_.context.controls(), query().kind),
                      rules::kNoExecute, bytes);
  }
  out_.page_bytes = bytes;
  set_guest_flags(!lacks_dirty);
  const Step step = land(rules.mode->frame(c.value, level, true) | (gva & (bytes - 1)), true);
  // Without D the processor walks again, unless the combined mapping already denies the store: its
  // rights are those of both. SDM 3C §"Information That May Be Cached".
  const bool denied = step == Step::kEnd && out_.rule == &rules::kEptRights;
  return lacks_dirty && !denied ? Step::kReject : step;
}

Step CourseWalker::land(std::uint64_t gpa, bool paging) {
  // An update of A or D that EPT does not allow ends the access, before or after an exit of the
  // address itself.
  bool must_exit = false;
  if (pendings_ != 0) {
    const unsigned i = pick(1 + pendings_);
    if (i < pendings_) return pending_exit(i);
    must_exit = true;
  }
  Translation to;
  const Step step = translate(gpa, final_use(prefix_.rights, paging), to);
  if (step != Step::kGo) return step;
  if (must_exit) return Step::kReject;
  out_.hpa[part_] = to.hpa;
  const bool memory = s_.is_memory(to.hpa);
  return end(memory ? OutcomeKind::kOk : OutcomeKind::kMmio, rules::kFresh);
}

}  // namespace twinwalk::oracle::walking
