// Accesses in guest mode of a bare machine: one of the courses that the manuals permit, and what it
// leaves behind.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "oracle/course.h"
#include "oracle/judge.h"
#include "oracle/registers.h"
#include "oracle/rules.h"

namespace twinwalk::oracle {
namespace {

constexpr std::uint64_t page_of(std::uint64_t address) { return address & ~(kPageBytes - 1); }

// What the courses that fit do to memory: in some of them, in all of them.
class Effects {
 public:
  // `completes`: what it sets it has set; of one that does not it is open.
  void take(const Course& c, bool completes) {
    for (unsigned i = 0; i < count_; ++i) words_[i].here = words_[i].must_here = 0;
    for (unsigned i = 0; i < c.set_count; ++i) {
      Word* word = at(c.sets[i].word);
      if (word == nullptr) continue;
      word->here |= c.sets[i].may;
      word->must_here |= c.sets[i].must;
    }
    for (unsigned i = 0; i < count_; ++i) {
      words_[i].may |= words_[i].here;
      words_[i].must = !completes      ? 0
                       : courses_ == 0 ? words_[i].must_here
                                       : words_[i].must & words_[i].must_here;
    }
    take_log(c);
    take_doubts(c);
    completes_ = completes;
    ++courses_;
  }
  bool any() const { return courses_ != 0; }
  // Of a course that need not have been taken.
  void take_perhaps(const Course& c) {
    for (unsigned i = 0; i < c.set_count; ++i)
      if (Word* word = at(c.sets[i].word)) word->may |= c.sets[i].may;
  }
  // Something may become 1 that is 0.
  bool adds_to(const MachineState& state) const {
    return std::any_of(words_.begin(), words_.begin() + count_,
                       [&](const Word& w) { return w.may & ~state.load_word(w.word); });
  }

  // `partly`: not all courses were looked at. Then nothing is certain.
  void apply(MachineState& state, GuestState& guest, bool partly) const {
    // As they were found, before what the courses set.
    if (!partly)
      for (const Doubt& d : certain_) settle(state, d);
    for (unsigned i = 0; i < count_; ++i) {
      Word w = words_[i];
      if (partly) w.must = 0;
      apply(state, w);
    }
    for (const Logged& l : logged_)
      guest.log.push_back({l.gpa, completes_ && !partly && l.courses == courses_});
  }

 private:
  struct Word {
    std::uint64_t word = 0, may = 0, must = 0, here = 0, must_here = 0;
  };
  struct Logged {
    std::uint64_t gpa = 0;
    unsigned courses = 0;
  };

  // What all courses take for settled is.
  void take_doubts(const Course& c) {
    const Doubt* const last = c.doubts + c.doubt_count;
    if (courses_ == 0) certain_.assign(c.doubts, last);
    std::erase_if(certain_, [&](const Doubt& d) { return std::find(c.doubts, last, d) == last; });
  }
  static void settle(MachineState& state, const Doubt& d) {
    const std::uint64_t open = state.open_bits(d.at) & d.bits;
    if (!d.set) state.flip_bits(d.at, open, Hand::kOpen);
    state.settle_bits(d.at, open);
  }

  Word* at(std::uint64_t word) {
    for (unsigned i = 0; i < count_; ++i)
      if (words_[i].word == word) return &words_[i];
    if (count_ == words_.size()) return nullptr;
    words_[count_] = {word};
    return &words_[count_++];
  }
  // Every course logs in its own order: the whole has all of them in it, with some left out.
  void take_log(const Course& c) {
    auto next = logged_.begin();
    for (unsigned i = 0; i < c.logged_count; ++i) {
      const auto same = [&](const Logged& l) { return l.gpa == c.logged[i]; };
      auto found = std::find_if(next, logged_.end(), same);
      if (found == logged_.end()) found = logged_.insert(next, {c.logged[i], 0});
      ++found->courses;
      next = found + 1;
    }
  }
  // What may be set counts as set: then all is known that may be cached from it.
  static void apply(MachineState& state, const Word& w) {
    const std::uint64_t now = state.load_word(w.word), open = state.open_bits(w.word);
    if (w.must & ~now) state.store_word(w.word, now | w.must, Hand::kWalker);
    state.settle_bits(w.word, w.must);
    const std::uint64_t maybe = w.may & ~w.must & (open | ~now);
    state.leave_open(w.word, maybe);
    if (maybe & ~now) state.store_word(w.word, state.load_word(w.word) | maybe, Hand::kOpen);
  }

  std::array<Word, 160> words_;
  unsigned count_ = 0, courses_ = 0;
  std::vector<Logged> logged_;
  std::vector<Doubt> certain_;
  bool completes_ = false;
};

// What an exit drops, if the course ends in one. SDM 3C §"Operations that Invalidate Cached
// Mappings".
void note_exit(MachineState& state, unsigned vcpu, const GuestTag& tag, const Course& c) {
  GuestState& guest = state.vcpu(vcpu).guest;
  const Time now = state.now();
  switch (c.kind) {
    case OutcomeKind::kEptViolation:
      guest.drop({.time = now,
                  .rule = &rules::kTdpStale,
                  .what = Drop::What::kGuestPhysical,
                  .ep4ta = tag.ep4ta,
                  .page = c.gpa,
                  .bytes = kPageBytes});
      if (c.final_address) {
        guest.drop({.time = now,
                    .rule = &rules::kTdpStale,
                    .vpid = tag.vpid,
                    .pcid = tag.pcid,
                    .ep4ta = tag.ep4ta,
                    .page = c.gva,
                    .bytes = kPageBytes,
                    .globals_of_pcid_only = true});
      }
      break;
    case OutcomeKind::kEptMisconfig:
    case OutcomeKind::kNestedFault:
    case OutcomeKind::kPmlFull:
      break;
    default:
      return;
  }
  guest.leave_and_return(now);
}

// Far more courses than a trace that invalidates now and then has.
constexpr unsigned kMostCourses = 1u << 13;
// Where the fresh walk gives the outcome, so many are enough to see what else may have been set.
constexpr unsigned kMostBeside = 1u << 10;

class GuestJudge {
 public:
  GuestJudge(MachineState& state, const JudgeInput& in, Counters& counters, Verdict& out)
      : state_(state),
        got_(*in.got),
        counters_(counters),
        out_(out),
        vcpu_(in.step->what.vcpu),
        query_(query_of(*in.step, state.vcpu(vcpu_).registers)),
        access_(make_guest_access(state, vcpu_, query_)),
        store_(stores(query_.kind)) {}

  void run() {
    Effects effects;
    std::optional<Effects> begun;
    Course course;
    bool found = look_for(effects, begun, course);
    if (begun && begun->adds_to(state_) && !too_large_) {
      // Those walks came first: what they may have set the one that counts may find there.
      begun->apply(state_, guest(), false);
      effects = {};
      found = look_for(effects, begun, course);
    }
    const bool fresh = fits_fresh_;
    if (!found) return unexplained();
    if (too_large_) {  // the outcome is right, but what else was set is anybody's guess
      state_.lose_track(rules::kTdpStale);
      ++(fresh ? counters_.fresh : counters_.stale);
      return;
    }
    effects.apply(state_, guest(), false);
    settle(course);
    if (out_.kind != VerdictKind::kAgree) return;
    if (course.undefined || wraps()) {
      unspecified(out_, course.undefined ? *course.rule : rules::kWrap, "outcome", to_text(got_),
                  text_of(fresh_));
    } else {
      ++(fresh ? counters_.fresh : counters_.stale);
    }
  }

 private:
  GuestState& guest() { return state_.vcpu(vcpu_).guest; }
  bool completes() const {
    return got_.kind == OutcomeKind::kOk || got_.kind == OutcomeKind::kMmio;
  }
  bool wraps() const {
    const PagingMode& mode = *access_.context.rules->mode;
    const std::uint64_t first = mode.linear(query_.gva);
    return !mode.is_long() && fresh_.parts == 2 && (first | (kPageBytes - 1)) == 0xffff'ffff;
  }

  bool same_address(const Course& c, std::uint64_t got, std::uint64_t want) const {
    return c.by_page ? page_of(got) == page_of(want) : got == want;
  }

  bool fits(const Course& c) const {
    if (got_.kind != c.kind) return false;
    switch (c.kind) {
      case OutcomeKind::kOk:
        for (unsigned i = 0; i < c.parts; ++i)
          if (got_.gpa[i] != kUnknownGpa && got_.gpa[i] != c.hpa[i]) return false;
        return query_.kind == AccessKind::kWrite || value_fits(c);
      case OutcomeKind::kMmio:
        return got_.gpa[0] == c.hpa[c.part] &&
               (query_.kind == AccessKind::kRmw || got_.write == store_);
      case OutcomeKind::kPageFault:
        return got_.error_code == c.error_code && same_address(c, got_.cr2, c.gva);
      case OutcomeKind::kEptViolation:
        return ((got_.qualification ^ c.qualification) & c.defined) == 0 &&
               same_address(c, got_.gpa[0], c.gpa) &&
               (!(c.qualification & eqx::kGvaValid) || same_address(c, got_.cr2, c.gva));
      case OutcomeKind::kNestedFault:
        return ((got_.qualification ^ c.qualification) & c.defined) == 0 &&
               same_address(c, got_.gpa[0], c.gpa);
      case OutcomeKind::kEptMisconfig:
        return same_address(c, got_.gpa[0], c.gpa);
      default:
        return true;
    }
  }

  Loaded loaded(const Course& c) const {
    const bool fetch = query_.kind == AccessKind::kFetch;
    return {{fetch ? c.hpa[0] & ~std::uint64_t{7} : c.hpa[0], c.hpa[1]}, byte_count(query_)};
  }
  bool value_fits(const Course& c) const {
    const Loaded load = loaded(c);
    const std::uint64_t value = state_.load(load.gpa[0], load.gpa[1], load.bytes);
    if (value == got_.value && !state_.anything_open() && c.set_count == 0) return true;
    for (unsigned b = 0; b < load.bytes; ++b) {
      const std::uint64_t at = load.byte(b), set = c.set_in_byte(at);
      const std::uint64_t want = (value >> 8 * b & 0xff) | set, got = got_.value >> 8 * b & 0xff;
      if ((want ^ got) & ~((state_.open_bits(at) | c.may_set_in_byte(at)) & ~set)) return false;
    }
    return true;
  }

  // The course to go on with: the fresh one if it fits. False: none does. `begun` is of walks that
  // ended in a fault by what was cached, after which AMD's processor walks again.
  bool look_for(Effects& effects, std::optional<Effects>& begun, Course& course) {
    fresh_ = {};
    walk_course(access_, nullptr, fresh_);
    fits_fresh_ = fits(fresh_);
    course = fresh_;
    // Also where the fresh walk has nothing to set: a former one to the same place may.
    const bool found = search(access_, &effects, &begun, course);
    if (fits_fresh_) course = fresh_;
    return found;
  }

  // What AMD's processor may have seen and then walked again: a fault that something cached had a
  // part in. APM 2 §"TLB Management".
  bool may_begin_again(const Course& c) const {
    const bool fault = c.kind == OutcomeKind::kPageFault || c.kind == OutcomeKind::kNestedFault;
    return c.begins_again || (c.old && fault && state_.machine().vendor == Vendor::kAmd);
  }

  // Goes through all courses; false: none fits. `effects` may be null: then the first that does is
  // enough.
  bool search(const GuestAccess& access, Effects* effects, std::optional<Effects>* begun,
              Course& first) {
    Chooser chooser;
    bool found = false;
    unsigned n = 0;
    do {
      Course c;
      const bool goes = walk_course(access, &chooser, c);
      if (goes && begun != nullptr && may_begin_again(c)) {
        if (!*begun) begun->emplace();
        (*begun)->take_perhaps(c);
      }
      if (goes && !c.begins_again && fits(c)) {
        if (!found) first = c;
        found = true;
        if (effects == nullptr) return true;
        effects->take(c, completes());
      }
      const bool settles = effects != nullptr && fits_fresh_;
      if (++n == (settles ? kMostBeside : kMostCourses) || chooser.too_long()) {
        too_large_ = true;
        break;
      }
    } while (chooser.advance());
    return found;
  }

  // --- After a course that fits.

  void settle(const Course& c) {
    if (got_.kind == OutcomeKind::kOk) {
      if (query_.kind != AccessKind::kWrite) show_loaded(c);
      store(c);
    }
    note_end(c);
    check_path();
  }

  // What was loaded shows A and D that were open.
  void show_loaded(const Course& c) {
    if (!state_.anything_open()) return;
    const Loaded load = loaded(c);
    for (unsigned b = 0; b < load.bytes; ++b) {
      const std::uint64_t at = load.byte(b), open = state_.open_bits(at) & 0xff;
      if (open == 0) continue;
      state_.flip_bits(at, (state_.load(at, 0, 1) ^ got_.value >> 8 * b) & open, Hand::kOpen);
      state_.settle_open(at, 1);
    }
  }

  void store(const Course& c) {
    if (!store_) return;
    const std::uint64_t value =
        query_.kind == AccessKind::kRmw ? got_.value + query_.value : query_.value;
    state_.store(c.hpa[0], c.hpa[1], query_.size, value, Hand::kGuest);
  }

  void note_end(const Course& c) {
    if (c.kind == OutcomeKind::kPageFault) {
      state_.page_faulted(vcpu_, c.gva, c.page_bytes);
    } else {
      note_exit(state_, vcpu_, access_.tag, c);
    }
  }

  void check_path() {
    for (unsigned i = 0; i < 2 && i < fresh_.parts; ++i) {
      const Path& shown = got_.path[i];
      if (shown.count == 0) continue;
      const std::uint64_t gva = i == 0 ? query_.gva : (first_byte(query_) | (kPageBytes - 1)) + 1;
      if (!check_path(shown, guest_path(access_, gva))) return;
    }
  }

  bool check_path(const Path& shown, const GuestPath& want) {
    const unsigned bytes = access_.context.rules->mode->entry_bytes;
    if (want.whole ? shown.count != want.path.count : shown.count < want.path.count) {
      diverge(out_, DivergenceClass::kWrongPath, rules::kPath, "path",
              fmt::format("{} with {} entries", to_text(got_), shown.count),
              fmt::format("{} entries", want.path.count));
      return false;
    }
    for (unsigned s = 0; s < want.path.count; ++s) {
      const std::uint64_t now = state_.load_entry(want.at[s], bytes), is = shown.entry[s];
      // Speculation may have walked there (rule stale-10).
      const std::uint64_t may =
          state_.open_bits(want.at[s]) | (now & is & pte::kP ? pte::kA & is : 0);
      const std::uint64_t wrong = (now ^ is) & ~may;
      if (wrong != 0) {
        const bool flags = (wrong & ~std::uint64_t{pte::kA | pte::kD}) == 0;
        diverge(out_, flags ? DivergenceClass::kAccessedDirty : DivergenceClass::kWrongPath,
                !flags            ? rules::kPath
                : wrong & pte::kA ? rules::kAccessed
                                  : rules::kDirty,
                "path", fmt::format("{} entry={:#x} at {:#x}", to_text(got_), is, want.at[s]),
                fmt::format("entry={:#x}", now));
        return false;
      }
      if (now != is) state_.flip_bits(want.at[s], now ^ is, Hand::kOpen);
      state_.settle_open(want.at[s], bytes);
    }
    return true;
  }

  // --- Nothing permits it.

  void unexplained() {
    if (wraps() && (got_.kind == OutcomeKind::kGp || got_.kind == OutcomeKind::kSs)) {
      return unspecified(out_, rules::kWrap, "outcome", to_text(got_), text_of(fresh_));
    }
    if (fresh_.undefined) {
      Effects effects;
      effects.take(fresh_, false);
      effects.apply(state_, guest(), true);
      unspecified(out_, *fresh_.rule, "outcome", to_text(got_), text_of(fresh_));
      return;
    }
    if (too_large_) {
      state_.lose_track(rules::kTdpStale);
      unspecified(out_, rules::kTdpStale, "outcome", to_text(got_),
                  "more former values than the search looks at");
      return;
    }
    classify();
    adopt_fresh();
  }

  void classify() {
    DivergenceClass divergence = class_of_difference();
    const Rule* rule = fresh_.rule;
    GuestAccess without = access_;
    without.ignore_windows = true;
    Course c;
    if (search(without, nullptr, nullptr, c) && c.old) {
      const GuestState& g = guest();
      const Cover cover =
          later(g.guest_physical(access_.tag),
                later(g.translation(access_.tag, c.gva), g.structures(access_.tag, c.gva)));
      if (cover.rule != nullptr) {
        divergence = DivergenceClass::kStaleAfterFlush;
        rule = cover.rule;
      }
    } else if (got_.kind == fresh_.kind && got_.kind == OutcomeKind::kEptViolation) {
      rule = &rules::kEptQualification;
    } else if (got_.kind == fresh_.kind && got_.kind == OutcomeKind::kPageFault) {
      rule = divergence == DivergenceClass::kWrongErrorCode ? &rules::kErrorCode
                                                            : &rules::kFaultAddress;
    }
    diverge(out_, divergence, *rule, field_of(divergence, "address"), to_text(got_),
            text_of(fresh_));
  }

  DivergenceClass class_of_difference() const {
    const bool fresh_completes =
        fresh_.kind == OutcomeKind::kOk || fresh_.kind == OutcomeKind::kMmio;
    if (fresh_completes && !completes()) {
      const bool fault = got_.kind == OutcomeKind::kPageFault || got_.kind == OutcomeKind::kGp ||
                         got_.kind == OutcomeKind::kEptViolation ||
                         got_.kind == OutcomeKind::kEptMisconfig ||
                         got_.kind == OutcomeKind::kNestedFault;
      return fault ? DivergenceClass::kSpuriousFault : DivergenceClass::kWrongException;
    }
    if (fresh_completes) {
      if (got_.kind != fresh_.kind || got_.kind == OutcomeKind::kMmio)
        return DivergenceClass::kWrongMmio;
      for (unsigned i = 0; i < fresh_.parts; ++i) {
        if (got_.gpa[i] != kUnknownGpa && got_.gpa[i] != fresh_.hpa[i])
          return DivergenceClass::kWrongFrame;
      }
      return DivergenceClass::kWrongValue;
    }
    if (completes()) return DivergenceClass::kMissedFault;
    if (got_.kind != fresh_.kind) return DivergenceClass::kWrongException;
    const bool same_code =
        got_.kind == OutcomeKind::kPageFault
            ? got_.error_code == fresh_.error_code
            : ((got_.qualification ^ fresh_.qualification) & fresh_.defined) == 0;
    return same_code ? DivergenceClass::kWrongFaultAddress : DivergenceClass::kWrongErrorCode;
  }

  std::string text_of(const Course& c) const { return to_text(outcome_of(access_, c)); }

  void adopt_fresh() {
    Effects effects;
    effects.take(fresh_, fresh_.kind == OutcomeKind::kOk || fresh_.kind == OutcomeKind::kMmio);
    effects.apply(state_, guest(), false);
    if (fresh_.kind == OutcomeKind::kOk && store_) {
      const Loaded load = loaded(fresh_);
      const std::uint64_t old = state_.load(load.gpa[0], load.gpa[1], load.bytes);
      state_.store(fresh_.hpa[0], fresh_.hpa[1], query_.size,
                   query_.kind == AccessKind::kRmw ? old + query_.value : query_.value,
                   Hand::kGuest);
    }
    note_end(fresh_);
  }

  MachineState& state_;
  const Outcome& got_;
  Counters& counters_;
  Verdict& out_;
  const unsigned vcpu_;
  const AccessQuery query_;
  const GuestAccess access_;
  const bool store_;
  Course fresh_;
  bool fits_fresh_ = false;
  bool too_large_ = false;
};

}  // namespace

namespace {

bool is_exit(OutcomeKind kind) {
  return kind == OutcomeKind::kEptViolation || kind == OutcomeKind::kEptMisconfig ||
         kind == OutcomeKind::kNestedFault || kind == OutcomeKind::kPmlFull;
}

bool same_exit(const Outcome& got, const Course& c) {
  return got.kind == c.kind && (c.gpa == kUnknownGpa || page_of(got.gpa[0]) == page_of(c.gpa)) &&
         ((got.qualification ^ c.qualification) & c.defined) == 0;
}

}  // namespace

GuestLoad find_guest_load(MachineState& state, const JudgeInput& in, std::uint64_t gpa,
                          bool (*suits)(const MachineState&, std::uint64_t, OutcomeKind),
                          Verdict& out) {
  const Outcome& got = *in.got;
  const unsigned vcpu = in.step->what.vcpu;
  GuestState& guest = state.vcpu(vcpu).guest;
  AccessQuery query;
  query.registers = state.vcpu(vcpu).registers;
  const GuestAccess access = make_guest_access(state, vcpu, query);
  GuestLoad load;
  Course fresh;
  walk_pdptes_load(access, gpa, nullptr, fresh);
  Effects effects;
  Chooser chooser;
  bool there = false;  // some course gets to the registers
  unsigned n = 0;
  do {
    Course c;
    if (!walk_pdptes_load(access, gpa, &chooser, c) || c.begins_again) continue;
    load.undefined |= c.undefined;
    if (is_exit(c.kind)) {
      if (!is_exit(got.kind) || !same_exit(got, c)) continue;
      effects.take(c, false);
      load.exited = true;
      load.course = c;
    } else if (!is_exit(got.kind) && suits(state, c.hpa[0], got.kind)) {
      effects.take(c, true);
      if (!there) load.base = c.hpa[0];
      there = true;
    } else if (!there) {
      load.base = c.hpa[0];
    }
  } while (++n < kMostCourses && chooser.advance());
  const bool explained = load.exited || there || fresh.kind == OutcomeKind::kOk;
  if (explained && !(is_exit(got.kind) && !load.exited)) {
    effects.apply(state, guest, n >= kMostCourses);
    if (load.exited) note_exit(state, vcpu, access.tag, load.course);
    return load;
  }
  load.exited = is_exit(fresh.kind);
  Outcome want = outcome_of(access, fresh);
  if (fresh.kind == OutcomeKind::kOk) want = {};
  if (load.undefined) {
    unspecified(out, *fresh.rule, "outcome", to_text(got), to_text(want));
    load.exited = is_exit(got.kind);
  } else {
    diverge(out,
            fresh.kind == OutcomeKind::kOk ? DivergenceClass::kSpuriousFault
            : is_exit(got.kind)            ? DivergenceClass::kWrongErrorCode
                                           : DivergenceClass::kMissedFault,
            fresh.rule != nullptr ? *fresh.rule : rules::kPdpte, "outcome", to_text(got),
            to_text(want));
  }
  return load;
}

void judge_guest_access(MachineState& state, const JudgeInput& in, Counters& counters,
                        Verdict& out) {
  GuestJudge(state, in, counters, out).run();
}

}  // namespace twinwalk::oracle
