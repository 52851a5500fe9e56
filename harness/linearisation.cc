#include "harness/linearisation.h"

#include <algorithm>

namespace twinwalk {

// The way in which they ended is alternative 0, the others follow.
unsigned Linearisation::Group::before() const {
  if (tried == 0) return natural;
  return tried - 1 < natural ? tried - 1 : tried;
}

void Linearisation::make_groups(const Program& program, const OutcomeStream& outcomes) {
  groups_.clear();
  const std::size_t count = program.steps.size();
  for (std::uint32_t i = 0; i < count;) {
    std::uint32_t end = i + 1;
    while (end < count && program.steps[end].what.point != Point::kNone) ++end;
    if (end > i + 1) groups_.push_back({i, end, {}});
    i = end;
  }
  std::size_t group = 0;
  for (const std::uint32_t step : outcomes.ended) {
    while (group < groups_.size() && groups_[group].end <= step) ++group;
    if (group == groups_.size()) break;
    Group& g = groups_[group];
    if (step == g.outer) {
      g.natural = static_cast<unsigned>(g.inner.size());
    } else if (step > g.outer) {
      g.inner.push_back(step);
    }
  }
  // What did not end, or was skipped, is judged last.
  for (Group& g : groups_) {
    for (std::uint32_t step = g.outer + 1; step < g.end; ++step) {
      if (std::find(g.inner.begin(), g.inner.end(), step) == g.inner.end()) g.inner.push_back(step);
    }
  }
}

void Linearisation::make_order(std::size_t steps) {
  order_.clear();
  std::uint32_t next = 0;
  for (const Group& g : groups_) {
    while (next < g.outer) order_.push_back(next++);
    for (std::size_t i = 0; i <= g.inner.size(); ++i) {
      if (i == g.before()) order_.push_back(g.outer);
      if (i < g.inner.size()) order_.push_back(g.inner[i]);
    }
    next = g.end;
  }
  while (next < steps) order_.push_back(next++);
}

// A place in the order; its size if there is none.
std::size_t Linearisation::first_divergence(const Program& program, const OutcomeStream& outcomes,
                                            oracle::Spec& spec, Profile profile) {
  spec.reset(program.machine, profile);
  for (std::size_t at = 0; at < order_.size(); ++at) {
    const std::uint32_t i = order_[at];
    prepare(program, at, spec);
    Outcome got = outcomes.steps[i];
    got.complaint = Complaint::kNone;  // no order takes that back
    spec.judge(i, program.steps[i], got, outcomes.extra.data(), verdict_);
    if (verdict_.kind == VerdictKind::kDiverge) return at;
  }
  return order_.size();
}

// Of the last group that can have led to a divergence at that step; of the one before it, when all
// of its own have been tried.
bool Linearisation::next_alternative(std::uint32_t diverged) {
  for (std::size_t g = groups_.size(); g-- > 0;) {
    Group& group = groups_[g];
    if (group.outer > diverged) {
      group.tried = 0;
      continue;
    }
    if (group.tried < group.inner.size()) {
      ++group.tried;
      return true;
    }
    group.tried = 0;
  }
  return false;
}

const Linearisation::Group* Linearisation::group_of(std::uint32_t step) const {
  const auto found = std::find_if(groups_.begin(), groups_.end(),
                                  [=](const Group& g) { return g.outer <= step && step < g.end; });
  return found == groups_.end() ? nullptr : &*found;
}

// The outer step, and of each block the first step that is still to be judged.
void Linearisation::prepare(const Program& program, std::size_t at, oracle::Spec& spec) const {
  const Group* const group = group_of(order_[at]);
  if (group == nullptr) return;
  std::uint32_t seen = 0;  // bit: a block, by its point
  for (std::size_t later = at + 1; later < order_.size(); ++later) {
    const std::uint32_t step = order_[later];
    if (step < group->outer || step >= group->end) return;
    const std::uint32_t block = 1u << static_cast<unsigned>(program.steps[step].what.point);
    const bool outer = step == group->outer;
    if (outer || (seen & block) == 0) spec.under_way(program.steps[step]);
    if (!outer) seen |= block;
  }
}

void Linearisation::find(const Program& program, const OutcomeStream& outcomes, oracle::Spec& spec,
                         Profile profile, const std::function<bool()>& holds) {
  make_groups(program, outcomes);
  std::vector<std::uint32_t> best;
  std::size_t furthest = 0;
  for (unsigned n = 0; n < kMostOrders; ++n) {
    make_order(program.steps.size());
    const std::size_t diverged = first_divergence(program, outcomes, spec, profile);
    if (diverged == order_.size() && holds()) {
      doubtful_from_ = diverged;
      return;
    }
    if (best.empty() || diverged > furthest) {
      best = order_;
      furthest = diverged;
    }
    if (!next_alternative(order_[std::min(diverged, order_.size() - 1)])) break;
  }
  order_ = best;
  const bool overlap = furthest < order_.size() && group_of(order_[furthest]) != nullptr;
  doubtful_from_ = overlap ? furthest : order_.size();
}

}  // namespace twinwalk
