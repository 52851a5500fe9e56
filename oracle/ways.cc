#include "oracle/ways.h"

#include "oracle/stale_match.h"

namespace twinwalk::oracle {

Ways::Word* Ways::Set::at(const Memslots& slots, std::uint64_t gpa) {
  for (unsigned i = 0; i < count; ++i)
    if (slots.same_byte(words[i].gpa, gpa)) return &words[i];
  if (count == words.size()) return nullptr;
  words[count] = {gpa};
  return &words[count++];
}

void Ways::of_completion(const std::uint64_t (&landing)[2]) {
  landing_[0] = landing[0], landing_[1] = landing[1];
  // A device's answer tells where one part went.
  const bool by_device = seen_.got.kind == OutcomeKind::kMmio && seen_.fresh.parts == 2;
  if (by_device && state_.profile() == Profile::kArchitecture) {
    for (unsigned i = 0; i < 2; ++i) of_part_unseen(i);
    return;
  }
  for (unsigned i = 0; i < seen_.fresh.parts; ++i) {
    part_ = i;
    add_fresh_way();
    search(i);
    end_part();
    add_walk_beside();
  }
  of_earlier_beginnings();
}

void Ways::of_earlier_beginnings() {
  for (unsigned i = 0; restarts() && i < seen_.fresh.parts; ++i) of_part_unseen(i);
}

// With two dimensions an access exits to the hypervisor and is begun again.
bool Ways::restarts() const {
  const Dimension core = state_.machine().core;
  return core == Dimension::kEpt || core == Dimension::kNpt || walks_again();
}

// A walk that ends in a fault by what was cached is not the last: AMD's processor begins again at
// the root. What the first has set stays. APM 2 §"TLB Management".
bool Ways::walks_again() const {
  return state_.profile() == Profile::kArchitecture && state_.machine().vendor == Vendor::kAmd;
}

void Ways::of_fault(unsigned part) {
  part_ = part;
  // The fault says nothing of how far the walk got, nor whether it set A: no way sets anything for
  // sure.
  begin_way();
  end_way();
  search(part);
  end_part();
  const bool crosses = seen_.fresh.parts == 2;
  if (crosses) of_part_unseen(1 - part);
  if (crosses || restarts()) of_part_unseen(part);
}

// Whether it was walked at all nothing tells.
void Ways::of_part_unseen(unsigned part) {
  part_ = part;
  anywhere_ = true;
  begin_way();
  end_way();
  add_fresh_way();
  search(part);
  end_part();
  anywhere_ = false;
}

void Ways::search(unsigned part) {
  StaleQuery query = make_stale_query(state_, seen_.context, seen_.fresh.part[part].gva);
  query.any_attempt = anywhere_ && walks_again();
  static_cast<void>(search_stale(query, *this));
}

void Ways::add_fresh_way() {
  const AccessPart& part = seen_.fresh.part[part_];
  if (part.faults || part.walk.stop != Stop::kLeaf) return;
  if (!anywhere_) {
    if (!state_.memory().slots().same_byte(part.walk.gpa, landing_[part_])) return;
    if (!shown_bits_fit(state_, seen_, part_, landing_, nullptr)) return;
  }
  begin_way();
  for (unsigned s = 0; s < part.walk.count; ++s) {
    const bool leaf = s + 1u == part.walk.count;
    const std::uint64_t due = s < part.walk.plain     ? 0
                              : leaf && seen_.store() ? pte::kA | pte::kD
                                                      : std::uint64_t{pte::kA};
    // What is open may have been clear until now.
    const std::uint64_t entry = part.walk.entry[s] & ~state_.open_bits(part.walk.entry_gpa[s]);
    sets(part.walk.entry_gpa[s], due & ~entry);
  }
  end_way();
}

// Whatever way the access took, the present path may have been walked as well, by speculation or by
// a hypervisor that looks at the tables: A of its present entries is open (rule stale-10).
void Ways::add_walk_beside() {
  const Walk& w = seen_.fresh.part[part_].walk;
  for (unsigned s = w.plain; s < w.count; ++s) {
    if (!(w.entry[s] & pte::kP) || w.entry[s] & pte::kA) continue;
    if (Word* word = all_.at(state_.memory().slots(), w.entry_gpa[s])) word->may |= pte::kA;
  }
}

bool Ways::visit(const StaleWalk& walk) {
  const bool fault = seen_.got.kind == OutcomeKind::kPageFault && !anywhere_;
  if (walk.faults != fault && !(anywhere_ && walks_again())) return false;
  if (anywhere_) {
    // Nothing is known of it.
  } else if (fault) {
    if (walk.error_code != seen_.got.error_code) return false;
  } else {
    if (!state_.memory().slots().same_byte(walk.gpa, landing_[part_])) return false;
    if (!shown_bits_fit(state_, seen_, part_, landing_, &walk)) return false;
    if (state_.profile() == Profile::kKvm && sets_unseen_bits(seen_, part_, walk)) return false;
  }
  begin_way();
  for (unsigned s = 0; s < walk.count; ++s) sets(walk.entry_gpa[s], walk.owed(s, seen_.store()));
  end_way();
  return false;
}

bool Ways::may_set(std::uint64_t entry_gpa, std::uint64_t bits) const {
  bool sets = false;
  for_each([&](std::uint64_t gpa, std::uint64_t may, std::uint64_t) {
    sets |= (may & bits) && state_.memory().slots().same_byte(gpa, entry_gpa);
  });
  return sets;
}

bool Ways::may_set_all(std::uint64_t entry_gpa, std::uint64_t bits) const {
  std::uint64_t left = bits;
  for_each([&](std::uint64_t gpa, std::uint64_t may, std::uint64_t) {
    if (state_.memory().slots().same_byte(gpa, entry_gpa)) left &= ~may;
  });
  return left == 0;
}

void Ways::begin_way() {
  for (unsigned i = 0; i < of_part_.count; ++i) of_part_.words[i].here = 0;
}

// Through an alias that is read-only nothing is set for sure (rule table-read-only); where another
// way goes through one that is not, that one names the word.
void Ways::sets(std::uint64_t entry_gpa, std::uint64_t bits) {
  if (bits == 0) return;
  Word* const word = of_part_.at(state_.memory().slots(), entry_gpa);
  if (word == nullptr) return;
  if (!state_.is_writable(entry_gpa)) {
    word->may |= bits;
    return;
  }
  word->gpa = entry_gpa;
  word->here |= bits;
}

void Ways::end_way() {
  for (unsigned i = 0; i < of_part_.count; ++i) {
    Word& word = of_part_.words[i];
    word.may |= word.here;
    word.must = ways_ == 0 ? word.here : word.must & word.here;
  }
  ++ways_;
}

void Ways::end_part() {
  found_ = found_ && ways_ != 0;
  for (unsigned i = 0; i < of_part_.count; ++i) {
    const Word& word = of_part_.words[i];
    Word* const all = all_.at(state_.memory().slots(), word.gpa);
    if (all == nullptr) continue;
    if (state_.is_writable(word.gpa)) all->gpa = word.gpa;
    all->may |= word.may, all->must |= word.must;
  }
  of_part_.count = 0;
  ways_ = 0;
}

}  // namespace twinwalk::oracle
