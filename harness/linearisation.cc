#include "harness/linearisation.h"

#include <algorithm>

namespace twinwalk {
namespace {

constexpr std::uint32_t kNeverEnded = ~std::uint32_t{0};

// A store that crosses a page is not one moment but several, each with its own effect on what
// follows. SDM 3A §"Guaranteed Atomic Operations".
bool has_several_moments(const Op& op) {
  const bool access = op.verb == Verb::kAccess;
  if (!access && op.verb != Verb::kWrite) return false;
  if (access && op.access() != AccessKind::kWrite && op.access() != AccessKind::kRmw) return false;
  constexpr std::uint64_t kPage = 4096;
  return ((access ? op.gva : op.gpa) & (kPage - 1)) + op.size > kPage;
}

bool has_path(const Outcome& got) { return got.path[0].count != 0 || got.path[1].count != 0; }

}  // namespace

// What did not end, or was skipped, is judged last of its group.
void Linearisation::make_groups(const Program& program, const OutcomeStream& outcomes) {
  const std::size_t count = program.steps.size();
  ended_.assign(count, kNeverEnded);
  for (std::size_t i = 0; i < outcomes.ended.size(); ++i)
    ended_[outcomes.ended[i]] = static_cast<std::uint32_t>(i);
  begun_ = outcomes.begun;
  begun_.resize(count, kNeverBegun);
  groups_.clear();
  for (std::uint32_t i = 0; i < count;) {
    std::uint32_t end = i + 1;
    while (end < count && program.steps[end].what.point != Point::kNone) ++end;
    if (end > i + 1) {
      Group g{i, end, {}, {}, {}};
      for (std::uint32_t step = i; step < end; ++step) g.natural.push_back(step);
      std::stable_sort(g.natural.begin(), g.natural.end(),
                       [this](std::uint32_t a, std::uint32_t b) { return ended_[a] < ended_[b]; });
      g.taken.assign(g.natural.size(), 0);
      g.of.assign(g.natural.size(), 1);
      groups_.push_back(std::move(g));
    }
    i = end;
  }
}

// With 0 taken everywhere that is the natural order: whoever ended first has nobody before it.
void Linearisation::place(Group& g) {
  std::vector<std::uint32_t> left = g.natural;
  for (std::size_t at = 0; at < g.taken.size(); ++at) {
    std::uint32_t could = 0;
    std::size_t chosen = 0;
    for (std::size_t i = 0; i < left.size(); ++i) {
      const bool free = std::none_of(left.begin(), left.end(),
                                     [&](std::uint32_t other) { return precedes(other, left[i]); });
      if (free && could++ == g.taken[at]) chosen = i;
    }
    g.of[at] = could;
    order_.push_back(left[chosen]);
    left.erase(left.begin() + static_cast<std::ptrdiff_t>(chosen));
  }
}

void Linearisation::make_order(std::size_t steps) {
  order_.clear();
  late_.clear();
  std::uint32_t next = 0;
  for (Group& g : groups_) {
    while (next < g.outer) order_.push_back(next++);
    place(g);
    next = g.end;
  }
  while (next < steps) order_.push_back(next++);
}

Linearisation::Reading Linearisation::reading_of(const Group& group, std::size_t at) const {
  Reading r{order_[at], at, at + 1};
  for (std::size_t later = at + 1; later < order_.size(); ++later) {
    const std::uint32_t step = order_[later];
    if (step < group.outer || step >= group.end || precedes(r.step, step)) break;
    r.to = later + 1;
    if (ended_[step] < ended_[r.step]) r.from = later;
  }
  return r;
}

bool Linearisation::is_late(std::uint32_t step) const {
  return std::find(late_.begin(), late_.end(), step) != late_.end();
}

// A place in the order; its size if there is none.
std::size_t Linearisation::first_divergence(const Program& program, const OutcomeStream& outcomes,
                                            oracle::Spec& spec, Profile profile) {
  spec.reset(program.machine, profile);
  for (std::size_t at = 0; at < order_.size(); ++at) {
    const std::uint32_t i = order_[at];
    Outcome got = prepare(program, outcomes, at, spec);
    got.complaint = Complaint::kNone;  // no order takes that back
    spec.judge(i, program.steps[i], got, outcomes.extra.data(), verdict_);
    if (verdict_.kind == VerdictKind::kDiverge) return at;
    if (!settle(program, outcomes, at, spec)) return at;
  }
  return order_.size();
}

// Nothing but the path of the step there was wrong: it may have been read later. False: it was not,
// or that has been tried.
bool Linearisation::read_later(std::size_t diverged) {
  if (diverged == order_.size() || verdict_.kind != VerdictKind::kDiverge) return false;
  const std::uint32_t step = order_[diverged];
  const Group* const group = group_of(step);
  if (verdict_.field != "path" || group == nullptr || is_late(step)) return false;
  if (reading_of(*group, diverged).to == diverged + 1) return false;
  late_.push_back(step);
  return true;
}

// Of the last group that can have led to a divergence at that place; of the one before it, when all
// of its own have been tried.
bool Linearisation::next_alternative(std::size_t diverged) {
  for (std::size_t g = groups_.size(); g-- > 0;) {
    Group& group = groups_[g];
    const std::size_t first = group.outer;  // place: those before it are as many as their steps
    if (first <= diverged) {
      for (std::size_t at = std::min(diverged - first + 1, group.taken.size()); at-- > 0;) {
        if (++group.taken[at] < group.of[at]) {
          std::fill(group.taken.begin() + static_cast<std::ptrdiff_t>(at) + 1, group.taken.end(),
                    0);
          return true;
        }
      }
    }
    std::fill(group.taken.begin(), group.taken.end(), 0);
  }
  return false;
}

const Linearisation::Group* Linearisation::group_of(std::uint32_t step) const {
  const auto found = std::find_if(groups_.begin(), groups_.end(),
                                  [=](const Group& g) { return g.outer <= step && step < g.end; });
  return found == groups_.end() ? nullptr : &*found;
}

// Under way are the outer step, and of each block the first step that is still to be judged.
Outcome Linearisation::prepare(const Program& program, const OutcomeStream& outcomes,
                               std::size_t at, oracle::Spec& spec) {
  if (at == 0) pending_.clear();
  const std::uint32_t here = order_[at];
  Outcome got = outcomes.steps[here];
  const Group* const group = group_of(here);
  if (group == nullptr) return got;
  std::uint32_t seen = 0;  // bit: a block, by its point
  for (std::size_t later = at + 1; later < order_.size(); ++later) {
    const std::uint32_t step = order_[later];
    if (step < group->outer || step >= group->end) break;
    const std::uint32_t block = 1u << static_cast<unsigned>(program.steps[step].what.point);
    const bool outer = step == group->outer;
    if (outer || (seen & block) == 0) spec.under_way(program.steps[step]);
    if (!outer) seen |= block;
  }
  spec.under_way_no_more(program.steps[here]);
  if (!has_path(got)) return got;
  const Reading reading = reading_of(*group, at);
  if (reading.from == at && !is_late(here)) return got;
  pending_.push_back(reading);
  spec.under_way(program.steps[here]);
  got.path[0] = got.path[1] = Path{};
  return got;
}

bool Linearisation::settle(const Program& program, const OutcomeStream& outcomes, std::size_t at,
                           oracle::Spec& spec) {
  bool fit = true;
  std::erase_if(pending_, [&](const Reading& r) {
    if (at < r.from) return false;
    if (spec.shows(program.steps[r.step], outcomes.steps[r.step])) return true;
    if (at + 1 < r.to) return false;
    fit = false;
    return true;
  });
  return fit;
}

bool Linearisation::several_moments_before(const Program& program, std::size_t place) const {
  return std::any_of(groups_.begin(), groups_.end(), [&](const Group& g) {
    return g.outer < place &&
           std::any_of(program.steps.begin() + g.outer, program.steps.begin() + g.end,
                       [](const Step& step) { return has_several_moments(step.what); });
  });
}

void Linearisation::find(const Program& program, const OutcomeStream& outcomes, oracle::Spec& spec,
                         Profile profile, const std::function<bool()>& holds) {
  make_groups(program, outcomes);
  std::vector<std::uint32_t> best, best_late;
  std::size_t furthest = 0;
  bool again = false;  // the same order, with a path read later
  for (unsigned n = 0; n < kMostOrders; ++n) {
    if (!again) make_order(program.steps.size());
    const std::size_t diverged = first_divergence(program, outcomes, spec, profile);
    if (diverged == order_.size() && holds()) {
      doubtful_from_ = diverged;
      return;
    }
    if (best.empty() || diverged > furthest) {
      best = order_;
      best_late = late_;
      furthest = diverged;
    }
    again = read_later(diverged);
    if (!again && !next_alternative(std::min(diverged, order_.size() - 1))) break;
  }
  order_ = best;
  late_ = best_late;
  const bool doubtful = furthest < order_.size() && (group_of(order_[furthest]) != nullptr ||
                                                     several_moments_before(program, furthest));
  doubtful_from_ = doubtful ? furthest : order_.size();
}

}  // namespace twinwalk
