#include "oracle/memslots.h"

#include <algorithm>
#include <utility>

#include "harness/trace/op.h"

namespace twinwalk::oracle {
namespace {

constexpr bool page_aligned(std::uint64_t address) { return address % kPageBytes == 0; }

// How wide the guest-physical addresses are that the hypervisor's tables translate.
// SDM 3C §"EPT Translation Mechanism"; APM 2 §"Nested Paging".
unsigned nested_width(const Machine& machine) {
  const unsigned levels = machine.host_levels;
  switch (machine.core) {
    case Dimension::kEpt:
      return levels == 5 ? 57 : 48;
    case Dimension::kNpt:
      return levels == 5 ? 57 : levels == 4 ? 48 : 32;
    default:
      return 64;
  }
}

}  // namespace

// A memslot that no table could show is refused (KVM: kvm_mmu_max_gfn).
void Memslots::set_width(const Machine& machine) {
  gpa_limit_ = bit(std::min<unsigned>(machine.maxphyaddr, nested_width(machine)));
  if (shared_bit_ != 0) gpa_limit_ = std::min(gpa_limit_, shared_bit_);
}

void Memslots::reset(const Machine& machine, unsigned space) {
  slots_ = {};
  hint_ = &slots_[0];
  everything_zapped_ = 0;
  shared_bit_ = shared_bit(machine);
  module_ = space == 0 && has_module(machine);
  tracked_.clear();
  identity_map_ = has_identity_map(machine);
  set_width(machine);
  slots_[0] = {true, false, false, 0, machine.memory_bytes(), kHvaBase, 0, 0};
  kinds_.clear();
  if (shared_bit_ != 0) kinds_.push_back({shared_bit_, true, 0});
  make_pieces();
}

bool Memslots::is_private(std::uint64_t gpa) const { return any_private(gpa, 1); }

bool Memslots::any_private(std::uint64_t gpa, std::uint64_t bytes) const {
  std::uint64_t begin = 0;
  for (const Kind& k : kinds_) {
    if (k.is_private && begin < gpa + bytes && gpa < k.end) return true;
    begin = k.end;
  }
  return false;
}

// TDX module: no page of secure EPT lacks a right, none is logged by its D bit or by PML.
bool Memslots::module_may_have(const Memslot& slot, std::uint64_t gpa, std::uint64_t bytes) const {
  const std::uint64_t first = std::max(gpa, slot.gpa);
  const std::uint64_t end = std::min(gpa + bytes, slot.gpa + slot.bytes);
  if (!slot.live || first >= end) return true;
  const auto tracked = tracked_.lower_bound(first);
  return !slot.read_only && !slot.log_dirty && (tracked == tracked_.end() || tracked->first >= end);
}

bool Memslots::track(std::uint64_t gpa) {
  gpa &= ~(kPageBytes - 1);
  const bool memory = std::any_of(slots_.begin(), slots_.end(),
                                  [gpa](const Memslot& s) { return gpa - s.gpa < s.bytes; });
  if (!memory || (module_ && is_private(gpa))) return false;
  ++tracked_[gpa];
  return true;
}

bool Memslots::untrack(std::uint64_t gpa) {
  const auto found = tracked_.find(gpa & ~(kPageBytes - 1));
  if (found == tracked_.end()) return false;
  if (--found->second == 0) tracked_.erase(found);
  return true;
}

void Memslots::forget_trackers(const Memslot& slot) {
  tracked_.erase(tracked_.lower_bound(slot.gpa), tracked_.lower_bound(slot.gpa + slot.bytes));
}

void Memslots::make_pieces() {
  if (shared_bit_ == 0) return;
  pieces_.clear();
  for (const Memslot& slot : slots_) {
    if (!slot.live) continue;
    std::uint64_t begin = 0;
    for (const Kind& kind : kinds_) {
      const std::uint64_t first = std::max(begin, slot.gpa);
      const std::uint64_t end = std::min(kind.end, slot.gpa + slot.bytes);
      begin = kind.end;
      if (first >= end) continue;
      Memslot piece = slot;
      piece.gpa = kind.is_private ? first : first | shared_bit_;
      piece.bytes = end - first;
      piece.hva = slot.hva + (first - slot.gpa);
      piece.since = std::max(slot.since, kind.since);
      pieces_.push_back(piece);
    }
  }
  hint_ = &nothing_;
}

bool Memslots::set_private(std::uint64_t gpa, std::uint64_t pages, bool is_private, Time now) {
  const std::uint64_t bytes = pages * kPageBytes;
  if (!page_aligned(gpa) || pages == 0 || gpa >= shared_bit_ || bytes > shared_bit_ - gpa)
    return false;
  if (module_ && is_private && !std::all_of(slots_.begin(), slots_.end(), [&](const Memslot& s) {
        return module_may_have(s, gpa, bytes);
      }))
    return false;
  std::vector<Kind> kinds;
  const auto add = [&kinds](Kind k) {
    const bool same =
        !kinds.empty() && kinds.back().is_private == k.is_private && kinds.back().since == k.since;
    if (same) {
      kinds.back().end = k.end;
    } else {
      kinds.push_back(k);
    }
  };
  std::uint64_t begin = 0;
  for (const Kind& k : kinds_) {
    const std::uint64_t first = std::max(begin, gpa), end = std::min(k.end, gpa + bytes);
    if (first >= end) {
      add(k);
    } else {
      if (begin < first) add({first, k.is_private, k.since});
      add({end, is_private, k.is_private == is_private ? k.since : now});
      if (end < k.end) add(k);
    }
    begin = k.end;
  }
  std::size_t ranges = 0;
  for (std::size_t i = 0; i < kinds.size(); ++i)
    ranges += kinds[i].is_private && (i == 0 || !kinds[i - 1].is_private);
  if (ranges > kMostPrivateRanges) return false;
  kinds_ = std::move(kinds);
  make_pieces();
  return true;
}

bool Memslots::same_as(const Memslots& other) const {
  // A slot that is no other's twin shows memory where the other space has none, or something else.
  const auto has_twin = [](const Memslots& in, const Memslot& s) {
    return std::any_of(in.slots_.begin(), in.slots_.end(), [&](const Memslot& t) {
      return t.live && t.gpa == s.gpa && t.bytes == s.bytes && t.hva == s.hva &&
             t.read_only == s.read_only;
    });
  };
  return std::all_of(slots_.begin(), slots_.end(),
                     [&](const Memslot& s) { return !s.live || has_twin(other, s); }) &&
         std::all_of(other.slots_.begin(), other.slots_.end(),
                     [&](const Memslot& s) { return !s.live || has_twin(*this, s); });
}

const Memslot* Memslots::find_slowly(std::uint64_t gpa) const {
  if (shared_bit_ != 0) {
    const auto found = std::find_if(pieces_.begin(), pieces_.end(),
                                    [gpa](const Memslot& s) { return gpa - s.gpa < s.bytes; });
    if (found == pieces_.end()) return nullptr;
    hint_ = &*found;
    return hint_;
  }
  for (unsigned i = 0; i < kMaxSlots; ++i) {
    if (gpa - slots_[i].gpa < slots_[i].bytes) {
      hint_ = &slots_[i];
      return hint_;
    }
  }
  return nullptr;
}

bool Memslots::range_is_free(std::uint64_t gpa, std::uint64_t bytes, std::uint64_t except) const {
  if (!page_aligned(gpa) || gpa > gpa_limit_ || bytes > gpa_limit_ - gpa) return false;
  if (identity_map_ && kIdentityMap - gpa < bytes) return false;
  for (unsigned i = 0; i < kMaxSlots; ++i) {
    const Memslot& s = slots_[i];
    if (s.live && i != except && gpa < s.gpa + s.bytes && s.gpa < gpa + bytes) return false;
  }
  return true;
}

bool Memslots::add(std::uint64_t id, std::uint64_t gpa, std::uint64_t pages, std::uint64_t hva,
                   std::uint64_t flags, Time now) {
  if (id >= kMaxSlots || slots_[id].live || pages == 0 || pages > kHvaBytes / kPageBytes)
    return false;
  const std::uint64_t bytes = pages * kPageBytes;
  if (!page_aligned(hva) || hva < kHvaBase || hva - kHvaBase > kHvaBytes - bytes) return false;
  if (!range_is_free(gpa, bytes, kMaxSlots)) return false;
  const Memslot added{true,
                      (flags & slot_flag::kReadOnly) != 0,
                      (flags & slot_flag::kLogDirty) != 0,
                      gpa,
                      bytes,
                      hva,
                      now,
                      static_cast<unsigned>(id)};
  if (!may_show(added)) return false;
  slots_[id] = added;
  make_pieces();
  return true;
}

bool Memslots::remove(std::uint64_t id) {
  if (id >= kMaxSlots || !slots_[id].live) return false;
  forget_trackers(slots_[id]);
  slots_[id] = {};
  make_pieces();
  return true;
}

bool Memslots::move(std::uint64_t id, std::uint64_t gpa, Time now) {
  if (id >= kMaxSlots || !slots_[id].live || !range_is_free(gpa, slots_[id].bytes, id))
    return false;
  Memslot moved = slots_[id];
  moved.gpa = gpa;
  moved.since = now;
  if (!may_show(moved)) return false;
  forget_trackers(slots_[id]);
  slots_[id] = moved;
  make_pieces();
  return true;
}

bool Memslots::set_flags(std::uint64_t id, std::uint64_t flags) {
  if (id >= kMaxSlots || !slots_[id].live) return false;
  Memslot changed = slots_[id];
  changed.read_only = (flags & slot_flag::kReadOnly) != 0;
  changed.log_dirty = (flags & slot_flag::kLogDirty) != 0;
  if (!may_show(changed)) return false;
  slots_[id] = changed;
  make_pieces();
  return true;
}

}  // namespace twinwalk::oracle
