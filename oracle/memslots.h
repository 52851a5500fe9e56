#ifndef TWINWALK_ORACLE_MEMSLOTS_H_
#define TWINWALK_ORACLE_MEMSLOTS_H_

// One guest-physical address space: which host-virtual page stands behind a gpa. There are two, one
// outside SMM and one inside.
//
// Where memory is private or shared (shared_bit()), a memslot shows itself in pieces: what is
// private at its own addresses, what is shared at those with the bit.

#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "harness/trace/machine.h"

namespace twinwalk::oracle {

using Time = std::uint32_t;  // position in the trace's sequence of events; 0 is before everything

inline constexpr std::uint64_t kPageBytes = 4096;
inline constexpr std::uint64_t kHvaBytes = std::uint64_t{4}
                                           << 30;  // [kHvaBase, kHvaBase + 4 GiB) is backed

struct Memslot {
  bool live = false;
  bool read_only = false;
  bool log_dirty = false;
  std::uint64_t gpa = 0;  // first byte
  std::uint64_t bytes = 0;
  std::uint64_t hva = 0;
  Time since = 0;  // when it came to stand at this gpa
  unsigned id = 0;
};

class Memslots {
 public:
  Memslots() = default;
  Memslots(const Memslots&) = delete;
  Memslots& operator=(const Memslots&) = delete;

  // Slot 0 alone, over all of the machine's memory, in address space `space`.
  void reset(const Machine& machine, unsigned space = 0);

  // The host's capabilities for the guest changed: requests are held against them from now on.
  void set_width(const Machine& machine);

  // The slot that holds `gpa`, or nullptr (MMIO).
  const Memslot* find(std::uint64_t gpa) const {
    if (gpa - hint_->gpa < hint_->bytes) return hint_;
    return find_slowly(gpa);
  }
  const Memslot& slot(std::uint64_t id) const { return slots_[id]; }
  // Both name the same byte: equal, or aliases of one hva in two slots.
  bool same_byte(std::uint64_t a, std::uint64_t b) const {
    if (a == b) return true;
    if ((a ^ b) & (kPageBytes - 1)) return false;  // slots show whole pages
    const Memslot* sa = find(a);
    const Memslot* sb = find(b);
    return sa != nullptr && sb != nullptr && hva_of(*sa, a) == hva_of(*sb, b);
  }
  // Calls f(gpa) for every guest address of the byte at `hva`: several where slots alias.
  template <class F>
  void for_each_gpa(std::uint64_t hva, F&& f) const {
    const auto show = [&](const Memslot& s) {
      if (hva - s.hva < s.bytes) f(s.gpa + (hva - s.hva));
    };
    if (shared_bit_ != 0) {
      for (const Memslot& s : pieces_) show(s);
    } else {
      for (const Memslot& s : slots_) show(s);
    }
  }
  // More than one guest address names this byte.
  bool is_aliased(std::uint64_t gpa) const {
    const Memslot* s = find(gpa);
    unsigned n = 0;
    if (s != nullptr) for_each_gpa(hva_of(*s, gpa), [&](std::uint64_t) { ++n; });
    return n > 1;
  }
  static std::uint64_t hva_of(const Memslot& slot, std::uint64_t gpa) {
    return slot.hva + (gpa - slot.gpa);
  }

  // Every gpa means the same in both.
  bool same_as(const Memslots& other) const;

  // Requests of the host. False: refused, nothing changed. Addresses and sizes in bytes, `pages` in
  // 4K.
  bool add(std::uint64_t id, std::uint64_t gpa, std::uint64_t pages, std::uint64_t hva,
           std::uint64_t flags, Time now);
  bool remove(std::uint64_t id);
  bool move(std::uint64_t id, std::uint64_t gpa, Time now);
  bool set_flags(std::uint64_t id, std::uint64_t flags);

  // One more, or one less, tracks the guest's stores to the page of `gpa`. A slot that is deleted
  // or moved is tracked by nobody.
  bool track(std::uint64_t gpa);
  bool untrack(std::uint64_t gpa);

  // [gpa, gpa + pages * 4K) becomes private or shared. False: refused, nothing changed.
  bool set_private(std::uint64_t gpa, std::uint64_t pages, bool is_private, Time now);
  // The bit of `gpa` says that it is of the other kind than it is.
  bool of_other_kind(std::uint64_t gpa) const {
    return gpa < 2 * shared_bit_ && is_private(gpa & ~shared_bit_) == ((gpa & shared_bit_) != 0);
  }
  std::uint64_t without_shared_bit(std::uint64_t gpa) const { return gpa & ~shared_bit_; }

  // When a slot of this or the other space was last deleted or moved: nothing that was mapped
  // before is left, in either. KVM API §"KVM_SET_USER_MEMORY_REGION" and
  // KVM_X86_QUIRK_SLOT_ZAP_ALL.
  Time everything_zapped() const { return everything_zapped_; }
  void note_everything_zapped(Time now) { everything_zapped_ = now; }

 private:
  const Memslot* find_slowly(std::uint64_t gpa) const;
  // Of the space without the shared bit; the first begins at 0, each ends where the next begins.
  struct Kind {
    std::uint64_t end = 0;
    bool is_private = true;
    Time since = 0;
  };
  bool is_private(std::uint64_t gpa) const;
  bool any_private(std::uint64_t gpa, std::uint64_t bytes) const;
  // Could [gpa, gpa + bytes) of the slot be a module's, which maps with all rights?
  bool module_may_have(const Memslot& slot, std::uint64_t gpa, std::uint64_t bytes) const;
  // With these flags, at this place.
  bool may_show(const Memslot& slot) const {
    const bool protects = slot.read_only || slot.log_dirty;
    return !module_ || !protects || !any_private(slot.gpa, slot.bytes);
  }
  void forget_trackers(const Memslot& slot);
  void make_pieces();
  bool range_is_free(std::uint64_t gpa, std::uint64_t bytes, std::uint64_t except) const;

  std::array<Memslot, kMaxSlots> slots_;  // a dead slot has bytes == 0
  std::uint64_t shared_bit_ = 0;
  bool module_ = false;                        // private memory is a module's
  std::map<std::uint64_t, unsigned> tracked_;  // page, by how many
  std::vector<Kind> kinds_;
  std::vector<Memslot> pieces_;
  Memslot nothing_;
  mutable const Memslot* hint_ = &slots_[0];  // what was found last
  std::uint64_t gpa_limit_ = 0;
  bool identity_map_ = false;
  Time everything_zapped_ = 0;
};

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_MEMSLOTS_H_
