#include "oracle/memslots.h"

#include <algorithm>

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
}

void Memslots::reset(const Machine& machine) {
  slots_ = {};
  hint_ = &slots_[0];
  everything_zapped_ = 0;
  set_width(machine);
  slots_[0] = {true, false, false, 0, machine.memory_bytes(), kHvaBase, 0};
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
  slots_[id] = {true,
                (flags & slot_flag::kReadOnly) != 0,
                (flags & slot_flag::kLogDirty) != 0,
                gpa,
                bytes,
                hva,
                now};
  return true;
}

bool Memslots::remove(std::uint64_t id) {
  if (id >= kMaxSlots || !slots_[id].live) return false;
  slots_[id] = {};
  return true;
}

bool Memslots::move(std::uint64_t id, std::uint64_t gpa, Time now) {
  if (id >= kMaxSlots || !slots_[id].live || !range_is_free(gpa, slots_[id].bytes, id))
    return false;
  slots_[id].gpa = gpa;
  slots_[id].since = now;
  return true;
}

bool Memslots::set_flags(std::uint64_t id, std::uint64_t flags) {
  if (id >= kMaxSlots || !slots_[id].live) return false;
  slots_[id].read_only = (flags & slot_flag::kReadOnly) != 0;
  slots_[id].log_dirty = (flags & slot_flag::kLogDirty) != 0;
  return true;
}

}  // namespace twinwalk::oracle
