#include "oracle/second_dimension.h"

#include <algorithm>

#include "oracle/image.h"
#include "oracle/rules.h"

namespace twinwalk::oracle {
namespace {

template <class Predicate>
Cover latest(const std::vector<Drop>& drops, Predicate matches) {
  const auto found = std::find_if(drops.rbegin(), drops.rend(), matches);
  return found != drops.rend() ? Cover{found->time, found->rule} : Cover{};
}

}  // namespace

void GuestState::reset() {
  active_ = false;
  nested_ = {};
  vpid_ = 0;
  drops_.clear();
  roots_.clear();
  nested_roots_.clear();
  without_flags_.clear();
  log.clear();
}

void GuestState::enter(const Nested& nested, unsigned vpid, const Root& root, unsigned pcid,
                       Time now) {
  if (active_) exit(now);
  active_ = true;
  nested_ = nested;
  vpid_ = vpid;
  if (vpid == 0) drop({.time = now, .rule = &rules::kVpid, .vpid = 0});
  if (ept()) {
    if (!nested.format.flags) {
      std::erase_if(without_flags_, [&](const WithoutFlags& w) { return w.ep4ta == nested.root; });
      without_flags_.push_back({nested.root, kStillThere});
    }
  } else {
    const auto same = std::find_if(nested_roots_.begin(), nested_roots_.end(), [&](const auto& r) {
      return r.root == nested.root && r.asid == vpid;
    });
    if (same != nested_roots_.end()) {
      same->end = kStillThere;
    } else {
      nested_roots_.push_back({nested.root, vpid, now, kStillThere});
    }
  }
  load_root(root, pcid, now);
}

void GuestState::exit(Time now) {
  active_ = false;
  for (GuestRoot& r : roots_)
    if (r.end == kStillThere) r.end = now;
  for (NestedRoot& r : nested_roots_)
    if (r.end == kStillThere) r.end = now;
  for (WithoutFlags& w : without_flags_)
    if (w.until == kStillThere) w.until = now;
  if (vpid_ == 0) drop({.time = now, .rule = &rules::kVpid, .vpid = 0});
}

void GuestState::leave_and_return(Time now) {
  if (vpid_ == 0) drop({.time = now, .rule = &rules::kVpid, .vpid = 0});
}

void GuestState::load_root(const Root& root, unsigned pcid, Time now) {
  const GuestTag tag = this->tag(pcid);
  GuestRoot* same = nullptr;
  for (GuestRoot& r : roots_) {
    if (r.end == kStillThere) r.end = now;
    if (r.root == root && r.tag.vpid == tag.vpid && r.tag.pcid == pcid &&
        r.tag.ep4ta == tag.ep4ta) {
      same = &r;
    }
  }
  if (same != nullptr) {
    same->end = kStillThere;
    same->perhaps = false;
  } else {
    roots_.push_back({root, tag, now, kStillThere});
  }
}

void GuestState::load_root_perhaps(const Root& root, unsigned pcid, Time now) {
  roots_.push_back({root, tag(pcid), now, kStillThere, true});
}

bool GuestState::knows_root() const {
  return std::none_of(roots_.begin(), roots_.end(),
                      [](const GuestRoot& r) { return r.perhaps && r.end == kStillThere; });
}

const Root* GuestState::settle_root(unsigned used) {
  if (knows_root()) return nullptr;
  unsigned n = 0;
  Time loaded = 0;
  std::erase_if(roots_, [&](const GuestRoot& r) {
    if (!r.perhaps || r.end != kStillThere) return false;
    loaded = r.begin;
    return (used >> ++n & 1) == 0;
  });
  if (used & 1) return nullptr;
  // load_root's was not loaded this time; it may have been before.
  std::erase_if(roots_, [&](GuestRoot& r) {
    if (r.perhaps || r.end != kStillThere) return false;
    r.end = loaded;
    return r.begin == loaded;
  });
  const auto other = std::find_if(roots_.begin(), roots_.end(), [](const GuestRoot& r) {
    return r.perhaps && r.end == kStillThere;
  });
  other->perhaps = false;
  return &other->root;
}

bool GuestState::covers(const Drop& d, const GuestTag& tag, std::uint64_t gva) {
  return (d.vpid == Drop::kAny || d.vpid == tag.vpid) && d.except_vpid != tag.vpid &&
         (d.ep4ta == Drop::kAny || d.ep4ta == tag.ep4ta) && d.covers_address(gva);
}

Cover GuestState::translation(const GuestTag& tag, std::uint64_t gva) const {
  return latest(drops_, [&](const Drop& d) {
    return d.what == Drop::What::kCombined && covers(d, tag, gva) &&
           (d.pcid == Drop::kAny || d.pcid == tag.pcid);
  });
}

Cover GuestState::global_translation(const GuestTag& tag, std::uint64_t gva) const {
  return latest(drops_, [&](const Drop& d) {
    return d.what == Drop::What::kCombined && !d.keeps_globals && covers(d, tag, gva) &&
           (!d.globals_of_pcid_only || d.pcid == tag.pcid);
  });
}

Cover GuestState::structures(const GuestTag& tag, std::uint64_t gva) const {
  return latest(drops_, [&](const Drop& d) {
    return d.what != Drop::What::kGuestPhysical && covers(d, tag, gva) &&
           (d.pcid == Drop::kAny || d.pcid == tag.pcid);
  });
}

Cover GuestState::guest_physical(const GuestTag& tag) const {
  return latest(drops_, [&](const Drop& d) {
    return d.what == Drop::What::kGuestPhysical && d.bytes == 0 &&
           (d.vpid == Drop::kAny || d.vpid == tag.vpid) &&
           (d.ep4ta == Drop::kAny || d.ep4ta == tag.ep4ta);
  });
}

Cover GuestState::violation_within(const GuestTag& tag, std::uint64_t gpa,
                                   std::uint64_t bytes) const {
  return latest(drops_, [&](const Drop& d) {
    return d.what == Drop::What::kGuestPhysical && d.bytes != 0 &&
           (d.ep4ta == Drop::kAny || d.ep4ta == tag.ep4ta) && ((d.page ^ gpa) & ~(bytes - 1)) == 0;
  });
}

Time GuestState::first_use(const GuestTag& tag, std::uint64_t root) const {
  Time first = kStillThere;
  if (ept()) {
    for (const GuestRoot& r : roots_)
      if (r.tag.ep4ta == tag.ep4ta) first = std::min(first, r.begin);
  } else {
    for (const NestedRoot& r : nested_roots_)
      if (r.root == root && r.asid == tag.vpid) first = std::min(first, r.begin);
  }
  return first;
}

Time GuestState::without_flags(std::uint64_t ep4ta) const {
  for (const WithoutFlags& w : without_flags_)
    if (w.ep4ta == ep4ta) return w.until;
  return 0;
}

unsigned GuestState::certain_in_log() const {
  return static_cast<unsigned>(
      std::count_if(log.begin(), log.end(), [](const PmlEntry& e) { return e.certain; }));
}

}  // namespace twinwalk::oracle
