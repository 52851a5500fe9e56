#include "oracle/course.h"

#include <algorithm>

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
  return {word};
}

namespace {

// A value that may be in use at an entry.
struct Choice {
  std::uint64_t value = 0;
  Time begin = 0;
  Time end = kStillThere;
  bool old = false;
  bool without_flags = false;  // cached while A and D of EPT were not looked at
};

// The values that may be in use at one entry; the one that is there now comes first.
class Choices {
 public:
  Choices(std::uint64_t now, Time begin) { at_[0] = {now, begin, kStillThere, false}; }
  unsigned count() const { return count_; }
  const Choice& operator[](unsigned i) const { return at_[i]; }
  Choice& newest() { return at_[count_ - 1]; }
  bool add(const Choice& c) {
    if (count_ == at_.size()) return false;
    at_[count_++] = c;
    return true;
  }

 private:
  std::array<Choice, 24> at_;
  unsigned count_ = 1;
};

// What one use of a guest-physical address is, and what an exit says of it.
struct Use {
  NestedNeeds needs;
  bool write = false;  // D is set
  bool table = false;  // an entry of the guest's tables
  std::uint64_t says = 0;
  std::uint64_t defined = ~std::uint64_t{0};
};

enum class Step : std::uint8_t { kGo, kEnd, kReject };

// Where a guest-physical address leads to.
struct Translation {
  std::uint64_t hpa = 0;
  Rights rights;
  bool old = false;
  Time before = kStillThere;  // what is read through it was read before that
};

// One way of a guest-physical address through the second dimension.
struct NestedWay {
  enum class End : std::uint8_t { kHpa, kNotPresent, kBad, kDenied, kNoTable };
  End end = End::kHpa;
  bool old = false;    // something that is not in memory now was used
  bool flags = false;  // A and D are looked at and set
  std::uint64_t hpa = 0;
  Rights rights;
  Time before = kStillThere;  // a combined mapping alone, made before that, can hold it
  Time latest = 0;            // when the last of its entries came
  struct Due {
    std::uint64_t at = 0, may = 0, must = 0;
  };
  std::array<Due, 16> due;  // what it sets
  unsigned count = 0;
  std::uint64_t leaf_at = 0;  // kHpa: of the entry that maps the page

  void add_due(std::uint64_t entry_at, std::uint64_t bits) {
    if (bits != 0) due[count++] = {entry_at, bits, bits};
  }
  void drop_due(std::uint64_t entry_at, std::uint64_t bits) {
    if (count == 0 || due[count - 1].at != entry_at) return;
    due[count - 1].may &= ~bits;
    due[count - 1].must &= ~bits;
    if (due[count - 1].may == 0) --count;
  }
  Due* find_due(std::uint64_t entry_at) {
    for (unsigned i = 0; i < count; ++i)
      if (due[i].at == entry_at) return &due[i];
    return nullptr;
  }
  // Whether nothing tells `other` from this, `telling` of its rights included: then this one stands
  // for both, with the weaker conditions.
  bool absorbs(NestedWay other, std::uint64_t telling) {
    if (end != other.end || hpa != other.hpa || leaf_at != other.leaf_at) return false;
    if ((rights.every ^ other.rights.every) & telling) return false;
    for (unsigned i = 0; i < count; ++i) {
      const Due* same = other.find_due(due[i].at);
      due[i].must &= same != nullptr ? same->must : 0;
    }
    for (unsigned i = 0; i < other.count; ++i) {
      Due* same = find_due(other.due[i].at);
      if (same != nullptr) {
        same->may |= other.due[i].may;
      } else if (count < due.size()) {
        due[count++] = {other.due[i].at, other.due[i].may, 0};
      }
    }
    flags = flags || other.flags;
    old = old && other.old;
    before = std::max(before, other.before);
    latest = std::min(latest, other.latest);
    return true;
  }
};
constexpr unsigned kMostNestedWays = 1u << 10;

// What the steps above have settled, of one part of an access.
struct Prefix {
  Rights rights;
  Time latest_begin = 0;
  Time oldest_end = kStillThere;    // of guest values
  Time oldest_upper = kStillThere;  // of those that are not the leaf
  bool old_guest = false;           // some guest value or root is a former one
  bool foreign_root = false;        // a root of another PCID: for global translations only
  bool cached_xd = false;           // XD was cached before EFER.NXE went to 0
};

class CourseWalker {
 public:
  CourseWalker(const GuestAccess& access, Chooser* chooser, Course& out, CourseNotes* notes)
      : a_(access),
        s_(*access.state),
        g_(access.state->vcpu(access.vcpu).guest),
        format_(&g_.nested().format),
        root_(g_.nested().root),
        chooser_(chooser),
        out_(out),
        notes_(notes) {}

  bool access() {
    const AccessQuery& q = *a_.context.query;
    const PagingMode& mode = *a_.context.rules->mode;
    gva_[0] = mode.linear(q.gva);
    const bool crosses = (first_byte(q) & (kPageBytes - 1)) + byte_count(q) > kPageBytes;
    out_.by_page = crosses;
    if (crosses) gva_[1] = mode.linear((first_byte(q) | (kPageBytes - 1)) + 1);
    const bool legal[2] = {mode.canonical(gva_[0]), !crosses || mode.canonical(gva_[1])};
    if (!legal[0] || !legal[1]) return not_canonical(crosses, legal[0] ? 0 : 1, legal);
    out_.parts = crosses ? 2 : 1;
    return crosses ? both_parts() : walk_part(0) != Step::kReject;
  }

  // The PDPTE registers' 32 bytes lie in one page.
  bool load(std::uint64_t gpa) {
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

 private:
  unsigned pick(unsigned n) { return chooser_ == nullptr ? 0 : chooser_->pick(n); }
  const Machine& machine() const { return s_.machine(); }
  const AccessQuery& query() const { return *a_.context.query; }
  bool amd() const { return machine().vendor == Vendor::kAmd; }
  void note(const CourseNote& n) {
    if (notes_ != nullptr) notes_->note(n);
  }

  // --- Ends.

  Step end(OutcomeKind kind, const Rule& rule) {
    out_.kind = kind;
    out_.rule = &rule;
    out_.part = static_cast<std::uint8_t>(part_);
    out_.gva = gva_[part_];
    return Step::kEnd;
  }
  Step not_defined(OutcomeKind kind, const Rule& rule) {
    out_.undefined = true;
    out_.defined = 0;
    return end(kind, rule);
  }

  bool not_canonical(bool crosses, unsigned half, const bool (&legal)[2]) {
    // The #PF or exit of the canonical half may come first, or not.
    if (crosses && (legal[0] || legal[1]) && pick(2) == 1) {
      out_.parts = 2;
      part_ = half;
      const Step step = walk_part(half);
      if (step != Step::kEnd || out_.kind == OutcomeKind::kOk || out_.kind == OutcomeKind::kMmio)
        return false;
      out_.undefined = true;
      out_.rule = &rules::kCrossing;
      return true;
    }
    out_.parts = 0;
    out_.kind = OutcomeKind::kGp;
    out_.rule = &rules::kCanonical;
    return true;
  }

  bool ends_well() const {
    return out_.kind == OutcomeKind::kOk || out_.kind == OutcomeKind::kMmio;
  }

  // Which of two faults comes first is open.
  bool both_parts() {
    if (walk_part(0) == Step::kReject) return false;
    const Course first = out_;
    if (walk_part(1) == Step::kReject) return false;
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

  // --- The second dimension.

  // NPT: what is cached is tagged by ASID alone, so that of any gpa the translation below an
  // earlier nested root may still be used.
  std::uint64_t pick_nested_root() {
    if (format_->ept || inner_ == nullptr) return root_;
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

  // Bits of a violation's qualification that mean nothing without the feature.
  std::uint64_t with_mbec(std::uint64_t bits) const {
    return format_->mbec ? bits : bits & ~eqx::kUserExecutable;
  }
  static constexpr std::uint64_t advanced() {
    return eqx::kGuestUser | eqx::kGuestWritable | eqx::kGuestNx;
  }

  Use table_use() const {
    if (!format_->ept) {
      return {format_->table_access(), true, true, npfec::kTable | pfec::kW | pfec::kU,
              ~std::uint64_t{0}};
    }
    const std::uint64_t tried = format_->flags ? eqx::kRead | eqx::kWrite : eqx::kRead;
    return {format_->table_access(), format_->flags, true, tried | eqx::kGvaValid,
            with_mbec(~advanced())};
  }

  Use final_use(const Rights& rights, bool paging) const {
    const AccessKind kind = query().kind;
    const bool fetch = kind == AccessKind::kFetch, store = stores(kind);
    const bool user = !paging || rights.user();
    Use use;
    use.write = store;
    use.needs = fetch ? format_->fetch(user) : store ? format_->write() : format_->read();
    if (format_->ept && kind == AccessKind::kWrite) use.needs.all = ept::kW;
    if (!format_->ept) {
      use.says = npfec::kFinal | pfec::kU | (store ? pfec::kW : 0) |
                 (fetch && format_->nxe ? pfec::kI : 0);
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

  Step exit(std::uint64_t gpa, const Use& use, const Rights* rights, bool reserved, bool walked_old,
            bool combined_only) {
    // Only the translation of a linear address comes from a combined mapping.
    if (combined_only && (use.table || !(use.says & eqx::kGvaValid))) return Step::kReject;
    out_.gpa = gpa;
    out_.final_address = !use.table && (use.says & (format_->ept ? eqx::kFinal : npfec::kFinal));
    if (!format_->ept) {
      if (walked_old) return Step::kReject;
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

  // Values that may have been cached from the entry at `at` in the second dimension.
  Choice choose_nested(const Memslot& slot, std::uint64_t at, unsigned level, std::uint64_t gpa,
                       bool flags, bool write, Time& combined_only) {
    const std::uint64_t hva = Memslots::hva_of(slot, at);
    const std::uint64_t now = s_.memory().image().load(hva);
    if (inner_ == nullptr) return {now, 0, kStillThere, false};
    const std::uint64_t ad = format_->accessed | format_->dirty;
    const bool plain = format_->is_plain(level);
    const Time window = a_.ignore_windows ? 0 : g_.guest_physical(a_.tag).time;
    const Time violated = a_.ignore_windows ? 0 : g_.violation(a_.tag, gpa).time;
    const Time unflagged = flags && format_->ept ? g_.without_flags(root_) : 0;
    // Cached while A and D were not looked at.
    const auto without_flags = [&](const Version& v) {
      return unflagged > std::max(window, v.begin);
    };
    const auto cacheable = [&](const Version& v) {
      return format_->is_present(v.value) && !format_->misconfigured(v.value, level) &&
             (!flags || plain || (v.value & format_->accessed) || without_flags(v));
    };
    const auto complete = [&](std::uint64_t v) {
      return !flags || plain || ((v & format_->accessed) && (!write || (v & format_->dirty)));
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
        if (!complete(settled) && without_flags(*v))
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
      if (v->end <= violated && !(violated > local_ && prefix_.latest_begin < violated)) continue;
      const bool lacks = !complete(v->value) && without_flags(*v);
      if (!choices.add(
              {v->value, v->begin, lacks ? std::min(v->end, unflagged) : v->end, true, lacks})) {
        break;
      }
      previous = v->begin;
    }
    const Choice c = choices[inner_->pick(choices.count())];
    if (c.old && c.end <= violated) combined_only = violated;
    return c;
  }

  // One way through the second dimension. False: these choices do not go together.
  bool walk_nested(std::uint64_t gpa, const Use& use, NestedWay& w) {
    NestedNeeds needs = use.needs;
    w.flags = format_->flags;
    if (w.flags && format_->ept && inner_ != nullptr) {
      // Cached while the same tables were used without A and D flags.
      const Time window = a_.ignore_windows ? 0 : g_.guest_physical(a_.tag).time;
      if (g_.without_flags(root_) > window && inner_->pick(2) == 1) {
        w.flags = false;
        w.old = true;
        if (use.table) needs = format_->read();
      }
    }
    std::uint64_t table = pick_nested_root();
    w.old |= table != root_;
    Time latest = inner_ == nullptr ? 0 : g_.first_use(a_.tag, table);
    for (unsigned level = format_->levels;; --level) {
      const std::uint64_t entry_at = format_->entry_at(table, gpa, level);
      const Memslot* slot = s_.memory().slots().find(entry_at);
      w.latest = latest;
      if (slot == nullptr) return w.end = NestedWay::End::kNoTable, true;
      const Choice c = choose_nested(*slot, entry_at, level, gpa, w.flags, use.write, w.before);
      note({false, !use.table, static_cast<std::uint8_t>(part_), static_cast<std::uint8_t>(level),
            false, gpa, entry_at, c.value});
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
      if (!leaf) continue;
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

  // Which rights of a way can be told from others'.
  std::uint64_t telling_rights(const Use& use, const NestedWay& w) const {
    if (!format_->ept) return 0;
    if (w.end == NestedWay::End::kDenied) return ept::kR | ept::kW | ept::kX | ept::kUx;
    return w.end == NestedWay::End::kHpa && use.table && !format_->flags ? ept::kW : 0;
  }

  // All ways of one address; those that differ in nothing that shows are one.
  class NestedWays {
   public:
    const NestedWay& operator[](unsigned i) const { return at_[i]; }
    unsigned count() const { return count_; }
    // False: there are too many.
    bool add(const NestedWay& w, std::uint64_t telling) {
      for (unsigned i = 0; i < count_; ++i)
        if (at_[i].absorbs(w, telling)) return true;
      if (count_ == at_.size()) return false;
      at_[count_++] = w;
      return true;
    }

   private:
    std::array<NestedWay, 24> at_;
    unsigned count_ = 0;
  };

  Step translate(std::uint64_t gpa, const Use& use, Translation& to) {
    if (!format_->translates(gpa)) {
      out_.gpa = gpa;
      return not_defined(format_->ept ? OutcomeKind::kEptViolation : OutcomeKind::kNestedFault,
                         rules::kGpaWidth);
    }
    if (chooser_ == nullptr) {
      NestedWay only;
      walk_nested(gpa, use, only);
      return follow(gpa, use, only, to);
    }
    Chooser inner;
    inner_ = &inner;
    NestedWays ways;
    unsigned looked_at = 0;
    do {
      NestedWay w;
      if (walk_nested(gpa, use, w) && !ways.add(w, telling_rights(use, w))) break;
    } while (inner.advance() && ++looked_at < kMostNestedWays && !inner.too_long());
    inner_ = nullptr;
    if (inner.unfinished()) chooser_->give_up();
    if (ways.count() == 0) return Step::kReject;
    return follow(gpa, use, ways[pick(ways.count())], to);
  }

  Step follow(std::uint64_t gpa, const Use& use, const NestedWay& w, Translation& to) {
    out_.old |= w.old;
    to.old = w.old;
    to.rights = w.rights;
    to.hpa = w.hpa;
    to.before = w.before;
    const bool by_combined = w.before != kStillThere;
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

  Step set_flags(const NestedWay& w) {
    for (unsigned i = 0; i < w.count; ++i) out_.set(w.due[i].at, w.due[i].may, w.due[i].must);
    return Step::kGo;
  }

  // SDM 3C §"Page-Modification Logging": with the log full the exit comes before A or D is set.
  Step log(std::uint64_t gpa, const NestedWay& w) {
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

  // --- The guest's own dimension.

  struct Pending {
    std::uint64_t gpa = 0;
    Rights rights;
  };

  Step walk_part(unsigned part) {
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

  void pick_root(WalkRoot& root, bool pge) {
    const bool nxe = query().registers.efer & efer::kNxe;
    cached_ = &s_.rule_book().at(row_of(query().registers), s_.vcpu(a_.vcpu).nxe_was_on);
    const GuestRoot* usable[16];
    unsigned n = 0;
    for (const GuestRoot& u : g_.roots()) {
      if (u.end == kStillThere) prefix_.latest_begin = u.begin;
      if (u.end == kStillThere || u.tag.vpid != a_.tag.vpid || u.tag.ep4ta != a_.tag.ep4ta)
        continue;
      const bool same = u.tag.pcid == a_.tag.pcid;
      if (same ? u.end <= std::min(local_, global_) : !pge || u.end <= global_) continue;
      if (n < 16) usable[n++] = &u;
    }
    const unsigned i = pick(n + 1);
    if (i == 0) return;
    const GuestRoot& u = *usable[i - 1];
    root = {u.root.cr3, s_.latches_pdptes() ? &u.root.pdptes : nullptr};
    now_ = &s_.rule_book().at(u.root.row, nxe);
    cached_ = &s_.rule_book().at(u.root.row, s_.vcpu(a_.vcpu).nxe_was_on);
    prefix_.latest_begin = u.begin;
    prefix_.oldest_end = prefix_.oldest_upper = u.end;
    prefix_.old_guest = out_.old = true;
    prefix_.foreign_root = u.tag.pcid != a_.tag.pcid;
  }

  Step without_paging(std::uint64_t gpa) {
    if (prefix_.old_guest && (prefix_.foreign_root || prefix_.oldest_end <= local_))
      return Step::kReject;
    return land(gpa, false);
  }

  Choice choose_guest(const Memslot& slot, std::uint64_t at, unsigned level, bool needs_dirty) {
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
    return choices[pick(choices.count())];
  }

  // A walk through cached upper entries that ends at an entry as it is now.
  bool fault_by_structures() const {
    if (!prefix_.old_guest) return true;
    return !prefix_.foreign_root && prefix_.oldest_end > local_ &&
           prefix_.oldest_upper > structures_;
  }

  Step page_fault(std::uint32_t error_code, const Rule& rule, std::uint64_t page_bytes) {
    if (prefix_.old_guest && (amd() || s_.profile() == Profile::kKvm)) return Step::kReject;
    // Which comes first, this or the exit of an update of A above, is open.
    const unsigned i = pick(1 + pendings_);
    if (i != 0) return pending_exit(i - 1);
    out_.error_code = error_code;
    out_.page_bytes = page_bytes;
    return end(OutcomeKind::kPageFault, rule);
  }

  // A table of the guest outside memory.
  Step no_table(std::uint32_t error_code) {
    out_.error_code = error_code;
    return not_defined(OutcomeKind::kPageFault, rules::kTableMmio);
  }

  // The processor's own update of A or D in a guest entry that EPT, without flags, does not let it
  // write.
  Step pending_exit(unsigned i) {
    Use use{{}, false, true, eqx::kWrite | eqx::kGvaValid, with_mbec(~advanced()) & ~eqx::kRead};
    return exit(pending_[i].gpa, use, &pending_[i].rights, false, false, false);
  }

  void set_guest_flags(bool dirty) {
    for (unsigned i = 0; i < guest_count_; ++i) {
      const bool leaf = i + 1 == guest_count_ && dirty;
      const std::uint64_t bits = guest_due_[i] & (leaf ? pte::kA | pte::kD : pte::kA);
      out_.set(guest_at_[i], bits, bits);
    }
  }

  Step descend(const WalkRoot& root, std::uint64_t gva, bool pge) {
    const PagingMode& mode = *now_->mode;
    std::uint64_t table = root.cr3 & mode.root_mask;
    unsigned level = mode.levels;
    const std::uint32_t tried = attempt_bits(a_.context.controls(), query().kind);
    if (mode.plain_entries != 0 && root.pdptes != nullptr) {
      const unsigned index = static_cast<unsigned>(gva >> 30) & 3;
      const std::uint64_t entry = root.pdptes->entry[index];
      note({true, false, static_cast<std::uint8_t>(part_), 3, true, gpa_of_pdpte(root.cr3, index),
            0, entry});
      if (!root.pdptes->known) return no_table(tried);
      if (!(entry & pte::kP))
        return fault_by_structures() ? page_fault(tried, rules::kPresent, kPageBytes)
                                     : Step::kReject;
      table = now_->frame(entry, 3);
      --level;
    }
    for (;; --level) {
      const std::uint64_t gpa = mode.entry_gpa(table, gva, level);
      Translation to;
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
      if (to.before != kStillThere && c.begin >= to.before) return Step::kReject;
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

  // SDM 3C §"EPT Violations": without flags for EPT reading a guest entry is a read, and an update
  // of its A and D a write.
  void note_pending(std::uint64_t gpa, const Translation& to, std::uint64_t certain,
                    std::uint64_t due) {
    if (due == 0 || !format_->ept || format_->flags || (to.rights.every & ept::kW)) return;
    if (certain == 0 && pick(2) == 0) return;
    pending_[pendings_++] = {gpa, to.rights};
  }

  Step leaf_reached(const Choice& c, unsigned level, std::uint64_t gva, bool pge) {
    if (prefix_.old_guest) {
      const bool global = pge && (c.value & pte::kG);
      if (prefix_.foreign_root && !global) return Step::kReject;
      if (prefix_.oldest_end <= (global ? global_ : local_)) return Step::kReject;
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
    if (c.old && stores(query().kind) && !(c.value & pte::kD)) return Step::kReject;
    // Whether what was cached with XD still denies fetches is open.
    if (prefix_.cached_xd && query().kind == AccessKind::kFetch && pick(2) == 1) {
      set_guest_flags(false);
      return page_fault(pfec::kP | attempt_bits(a_.context.controls(), query().kind),
                        rules::kNoExecute, bytes);
    }
    out_.page_bytes = bytes;
    set_guest_flags(true);
    return land(rules.mode->frame(c.value, level, true) | (gva & (bytes - 1)), true);
  }

  Step land(std::uint64_t gpa, bool paging) {
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

  const GuestAccess& a_;
  const MachineState& s_;
  const GuestState& g_;
  const NestedFormat* format_;
  std::uint64_t root_;
  Chooser* chooser_;
  Chooser* inner_ = nullptr;  // of the nested walk at hand
  Course& out_;
  CourseNotes* notes_;
  std::uint64_t gva_[2] = {0, 0};
  unsigned part_ = 0;
  Prefix prefix_;
  Time local_ = 0, global_ = 0, structures_ = 0;
  const EntryRules* now_ = nullptr;     // of the root's mode: for entries walked now
  const EntryRules* cached_ = nullptr;  // and for cached ones
  Pending pending_[kMaxLevels];
  unsigned pendings_ = 0;
  std::uint64_t guest_at_[kMaxLevels], guest_due_[kMaxLevels];
  unsigned guest_count_ = 0;
};

}  // namespace

GuestAccess make_guest_access(const MachineState& state, unsigned vcpu, const AccessQuery& query) {
  GuestAccess a;
  a.state = &state;
  a.vcpu = vcpu;
  a.context = make_context(state, vcpu, query);
  a.tag = state.vcpu(vcpu).guest.tag(current_pcid(query.registers));
  return a;
}

bool walk_course(const GuestAccess& access, Chooser* chooser, Course& out, CourseNotes* notes) {
  return CourseWalker(access, chooser, out, notes).access();
}

bool walk_pdptes_load(const GuestAccess& access, std::uint64_t gpa, Chooser* chooser, Course& out) {
  return CourseWalker(access, chooser, out, nullptr).load(gpa);
}

}  // namespace twinwalk::oracle
