#include "oracle/staleness.h"

#include <algorithm>

#include "harness/trace/content.h"
#include "oracle/registers.h"

namespace twinwalk::oracle {
namespace {

// Bound of one search, in entries looked at; real traces stay three orders below.
constexpr unsigned kMaxSteps = 1u << 16;

// A value that a step may use.
struct Choice {
  std::uint64_t value = 0;
  Time begin = 0;
  Time end = kStillThere;      // in the sense of windows
  Time left_at = kStillThere;  // when memory stopped holding it
  bool old = false;
  bool fixed =
      false;  // in a read-only memslot, where no walk can set A or D (rule table-read-only)
};

// What the steps above have settled.
struct Prefix {
  Rights rights;
  Time latest_begin = 0;            // of all choices
  Time oldest_end = kStillThere;    // of all choices
  Time oldest_upper = kStillThere;  // of former values that are not the leaf
  bool old_pdpte = false;           // a former PDPTE, as AMD's processors cache them
};

class Search {
 public:
  Search(const StaleQuery& query, StaleVisitor& visitor)
      : q_(query),
        visitor_(visitor),
        least_(std::min(local(kPageBytes), q_.pge ? global(kPageBytes) : local(kPageBytes))),
        local_(local(kStillThere)),
        structures_(q_.ignore_windows ? 0 : q_.history->structures(q_.pcid).time) {}

  SearchResult run() {
    for (const UsedRoot& used : q_.history->roots()) {
      const bool current = used.end == kStillThere;
      if (!current && !root_usable(used)) continue;
      Prefix prefix;
      foreign_root_ = !current && used.pcid != q_.pcid;
      if (!current) {
        prefix.latest_begin = used.begin;
        prefix.oldest_end = prefix.oldest_upper = used.end;
      }
      now_ = &q_.rule_book->at(used.root.row, q_.nxe);
      cached_ = &q_.rule_book->at(used.root.row, q_.nxe_was_on);
      const PagingMode& mode = *now_->mode;
      walk_.root = used.root.cr3 & mode.root_mask;
      walk_.row = used.root.row;
      walk_.plain = mode.plain_entries;
      walk_.old_root = !current;
      SearchResult r = SearchResult::kNone;
      if (mode.levels == 0) {
        r = no_tables(prefix);
      } else if (mode.plain_entries != 0 && q_.vendor == Vendor::kIntel) {
        r = from_registers(used, prefix);
      } else {
        r = descend(walk_.root, mode.levels, 0, prefix);
      }
      if (r != SearchResult::kNone) return r;
    }
    return SearchResult::kNone;
  }

 private:
  bool kvm() const { return q_.profile == Profile::kKvm; }

  // When a translation of a page of that size was last dropped.
  Time local(std::uint64_t bytes) const {
    return q_.ignore_windows ? 0 : q_.history->translation(q_.pcid, q_.gva, bytes).time;
  }
  Time global(std::uint64_t bytes) const {
    return q_.ignore_windows ? 0 : q_.history->global_translation(q_.pcid, q_.gva, bytes).time;
  }

  bool root_usable(const UsedRoot& root) const {
    if (root.pcid != q_.pcid && !q_.pge) return false;
    return root.end > (root.pcid == q_.pcid ? least_ : global(kPageBytes));
  }

  // With paging off.
  SearchResult no_tables(const Prefix& prefix) {
    if (!walk_.old_root || prefix.oldest_end <= local_) return SearchResult::kNone;
    walk_.count = 0;
    walk_.level = 1;
    return report(prefix, false, 0, now_->mode->linear(q_.gva), false);
  }

  // A PDPTE register is what it was when it was loaded, whatever memory has held since.
  SearchResult from_registers(const UsedRoot& used, const Prefix& prefix) {
    const unsigned index = static_cast<unsigned>(q_.gva >> 30) & 3;
    const std::uint64_t entry = used.root.pdptes.entry[index];
    walk_.entry[0] = entry;
    walk_.entry_gpa[0] = walk_.root + 8 * index;
    walk_.old[0] = walk_.old_root;
    walk_.fixed[0] = false;
    walk_.left_at[0] = used.end;
    walk_.count = 1;
    walk_.level = 3;
    if (!(entry & pte::kP) || !used.root.pdptes.known) return SearchResult::kNone;
    return descend(now_->frame(entry, 3), 2, 1, prefix);
  }

  SearchResult descend(std::uint64_t table, unsigned level, unsigned step, const Prefix& prefix) {
    const unsigned bytes = now_->mode->entry_bytes;
    const std::uint64_t at = now_->mode->entry_gpa(table, q_.gva, level);
    const Memslot* slot = q_.memory->slots().find(at);
    if (slot == nullptr) return SearchResult::kNone;
    walk_.entry_gpa[step] = at;
    const std::uint64_t hva = Memslots::hva_of(*slot, at);
    EntryPast past(q_.memory->image(), hva, bytes);
    Version version;
    bool more = past.next(version);
    const bool plain = now_->is_plain(level);

    const std::uint64_t word = q_.memory->image().load(hva & ~std::uint64_t{7});
    const bool fixed = slot->read_only;
    Choice now{bytes == 8 ? word : extract(word, hva & 4, 4), q_.now};
    now.fixed = fixed;
    // A value that is still there may have been walked at any time since it came, if it could be
    // cached.
    if (more && version.end == kStillThere && (plain || fixed || (now.value & pte::kA)))
      now.begin = version.begin;
    SearchResult r = try_choice(now, level, step, prefix);
    if (r != SearchResult::kNone) return r;
    // XD became reserved when EFER.NXE went: what was cached before that is a former value.
    if (!kvm() && more && version.end == kStillThere && q_.nxe_left > version.begin &&
        (now.value & pte::kP) && now_->reserved(now.value, level)) {
      r = try_choice({now.value, version.begin, q_.nxe_left, kStillThere, true, fixed}, level, step,
                     prefix);
      if (r != SearchResult::kNone) return r;
    }

    Time window_end =
        kStillThere;  // kvm: when the guest first stored to the entry after the value had left
    const std::uint64_t page = q_.memory->page_of(at);
    for (; more; more = past.next(version)) {
      const bool old = version.end != kStillThere;
      if (version.end <= slot->since && !q_.ignore_windows) break;
      Choice choice{version.value, version.begin, version.end, version.end, true, fixed};
      // Nobody shadows a PDPTE: it is read again, and so seen, whoever changed it.
      if (kvm() && !plain) {
        if (old && version.ender == Hand::kGuest && version.ender_page == page)
          window_end = version.end;
        choice.end = window_end;
        if (version.maker == Hand::kGuest && version.maker_page == page) window_end = version.begin;
        if (level != 1 && choice.end != kStillThere && !q_.ignore_windows) continue;
      }
      if (!old) continue;
      if (choice.end <= least_) break;
      r = try_choice(choice, level, step, prefix);
      if (r != SearchResult::kNone) return r;
    }
    return SearchResult::kNone;
  }

  SearchResult try_choice(const Choice& choice, unsigned level, unsigned step, Prefix prefix) {
    if (++steps_ > kMaxSteps) return SearchResult::kTooLarge;
    walk_.entry[step] = choice.value;
    walk_.old[step] = choice.old;
    walk_.fixed[step] = choice.fixed;
    walk_.left_at[step] = choice.left_at;
    walk_.count = static_cast<std::uint8_t>(step + 1);
    walk_.level = static_cast<std::uint8_t>(level);
    const EntryRules& rules = choice.old ? *cached_ : *now_;
    const bool plain = rules.is_plain(level);
    if (choice.old) {
      if (!(plain || choice.fixed || (choice.value & pte::kA)) ||
          rules.reserved(choice.value, level))
        return SearchResult::kNone;
      // Gone before its table was reached. A shadow MMU brings what it has of a table in step when
      // it links it (KVM: mmu_sync_children). Of one step nothing says what came first: a store may
      // take off the entry below those in which its own walk has set A.
      if (choice.end < prefix.latest_begin) return SearchResult::kNone;
    } else if (!(choice.value & pte::kP)) {
      return fault(attempt_bits(q_.controls, q_.kind), prefix);
    } else if (rules.reserved(choice.value, level)) {
      return fault(pfec::kP | pfec::kRsvd | attempt_bits(q_.controls, q_.kind), prefix);
    }
    if (!plain) prefix.rights.take(choice.value);
    prefix.latest_begin = std::max(prefix.latest_begin, choice.begin);
    prefix.oldest_end = std::min(prefix.oldest_end, choice.end);
    if (rules.is_leaf(choice.value, level)) return leaf(choice, level, prefix);
    if (choice.old) {
      prefix.oldest_upper = std::min(prefix.oldest_upper, choice.end);
      prefix.old_pdpte |= plain;
    }
    return descend(rules.frame(choice.value, level), level - 1, step + 1, prefix);
  }

  // A walk through cached upper entries that ends at an entry as it is now.
  SearchResult fault(std::uint32_t error_code, const Prefix& prefix) {
    if (!faults_allowed() || !walk_.any_old() || foreign_root_) return SearchResult::kNone;
    if (prefix.oldest_end <= local_ || prefix.oldest_upper <= structures_)
      return SearchResult::kNone;
    return report(prefix, true, error_code, 0, false);
  }

  SearchResult leaf(const Choice& choice, unsigned level, Prefix prefix) {
    if (!walk_.any_old()) return SearchResult::kNone;
    const bool global = q_.pge && (choice.value & pte::kG);
    if (foreign_root_ && !global) return SearchResult::kNone;
    const std::uint64_t bytes = now_->mode->page_bytes(level);
    const Time window = global ? this->global(bytes) : local(bytes);
    // What drops a page larger than this one drops the structures that lead there.
    const Time structures = std::max(structures_, local_);
    // INVLPG under another PCID drops the global translation here as well, but not the structures
    // of this PCID: by these the leaf may have been found again. SDM 3A §"Operations that
    // Invalidate TLBs and Paging-Structure Caches".
    const bool found_again = global && !kvm() && !foreign_root_ && choice.end > window &&
                             prefix.oldest_upper > structures;
    if (prefix.oldest_end <= window && !found_again) return SearchResult::kNone;
    if ((!kvm() || prefix.old_pdpte) && !global && prefix.oldest_upper <= structures &&
        prefix.latest_begin >= structures) {
      return SearchResult::kNone;
    }
    const std::uint64_t base = now_->mode->frame(choice.value, level, true);
    const std::uint64_t gpa = base | (q_.gva & (bytes - 1));
    // A large page is shadowed by a link to pages of its own size's pieces, which another large
    // page may share. An unannounced edit leaves the link, and no invalidation has to end it: the
    // frame that backs the gpa now, or a memslot added later brings, may come in again below it, by
    // the other page (rule 31).
    const bool unannounced = kvm() && level > 1 && choice.end == kStillThere;
    if (choice.old && !frame_still_theirs(gpa, choice.left_at, unannounced))
      return SearchResult::kNone;
    prefix.rights.key =
        static_cast<std::uint8_t>((choice.value & pte::kPkeyMask) >> pte::kPkeyShift);
    const RightsCheck check = check_rights(q_.controls, q_.kind, prefix.rights);
    if (!check.pass) {
      return faults_allowed() ? report(prefix, true, check.error_code, 0, global)
                              : SearchResult::kNone;
    }
    // Whether what was cached with XD before EFER.NXE went to 0 still denies fetches is open.
    if (!kvm() && q_.kind == AccessKind::kFetch && !q_.nxe && !prefix.rights.executable() &&
        faults_allowed()) {
      const SearchResult r =
          report(prefix, true, pfec::kP | attempt_bits(q_.controls, q_.kind), 0, global);
      if (r != SearchResult::kNone) return r;
    }
    // A store through a cached translation without D walks the tables again first.
    if (choice.old && stores(q_.kind) && !choice.fixed && !(choice.value & pte::kD))
      return SearchResult::kNone;
    return report(prefix, false, 0, gpa, global);
  }

  // Host memory management and memslot changes end every translation to the frame (rule 30).
  bool frame_still_theirs(std::uint64_t gpa, Time left_at, bool unannounced) const {
    const Memslot* slot = q_.memory->slots().find(gpa);
    if (slot == nullptr) return true;  // MMIO then and now
    if (unannounced) return left_at > q_.memory->slots().everything_zapped();
    return left_at > slot->since &&
           left_at > q_.memory->image().frame_since(Memslots::hva_of(*slot, gpa));
  }

  // With AMD nothing that was only cached faults: the processor walks again, from the beginning.
  bool faults_allowed() const { return !kvm() && (q_.vendor != Vendor::kAmd || q_.any_attempt); }

  SearchResult report(const Prefix& prefix, bool faults, std::uint32_t error_code,
                      std::uint64_t gpa, bool global) {
    walk_.faults = faults;
    walk_.error_code = error_code;
    walk_.gpa = gpa;
    walk_.oldest_end = prefix.oldest_end;
    walk_.global = global;
    return visitor_.visit(walk_) ? SearchResult::kFound : SearchResult::kNone;
  }

  const StaleQuery& q_;
  StaleVisitor& visitor_;
  const EntryRules* now_ = nullptr;     // of the root's mode: for entries walked now
  const EntryRules* cached_ = nullptr;  // and for cached ones
  StaleWalk walk_;
  const Time least_;  // nothing that left before serves at any page size
  const Time local_;  // of the invalidations of pages of any size
  const Time structures_;
  bool foreign_root_ = false;  // a root of another PCID: for global translations only
  unsigned steps_ = 0;
};

}  // namespace

StaleQuery make_stale_query(const MachineState& state, const AccessContext& context,
                            std::uint64_t gva) {
  StaleQuery q;
  q.memory = &state.memory();
  q.history = &state.vcpu(context.vcpu).history;
  q.rule_book = &state.rule_book();
  q.nxe = context.query->registers.efer & efer::kNxe;
  q.nxe_was_on = state.vcpu(context.vcpu).nxe_was_on;
  q.nxe_left = state.vcpu(context.vcpu).nxe_left;
  q.profile = state.profile();
  q.vendor = state.machine().vendor;
  q.pcid = current_pcid(context.query->registers);
  q.pge = context.query->registers.cr4 & cr4::kPge;
  q.controls = context.controls();
  q.kind = context.query->kind;
  q.gva = gva;
  q.now = state.now();
  return q;
}

bool StaleWalk::any_old() const {
  return old_root || std::any_of(old, old + count, [](bool o) { return o; });
}

std::uint64_t StaleWalk::owed(unsigned step, bool store) const {
  if (step < plain || old[step] || fixed[step] || !(entry[step] & pte::kP)) return 0;
  std::uint64_t bits = pte::kA;
  if (store && !faults && step + 1u == count) bits |= pte::kD;
  return bits & ~entry[step];
}

SearchResult search_stale(const StaleQuery& query, StaleVisitor& visitor) {
  if (query.profile != Profile::kKvmOnProcessor) return Search(query, visitor).run();
  StaleQuery one = query;
  one.profile = Profile::kKvm;
  const SearchResult found = Search(one, visitor).run();
  if (found != SearchResult::kNone) return found;
  one.profile = Profile::kArchitecture;
  return Search(one, visitor).run();
}

}  // namespace twinwalk::oracle
