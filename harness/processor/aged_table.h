#ifndef TWINWALK_HARNESS_PROCESSOR_AGED_TABLE_H_
#define TWINWALK_HARNESS_PROCESSOR_AGED_TABLE_H_

// A small map from 64-bit keys to values that remembers the order of insertion: the oldest entry
// goes first when the table is full. Open addressing over a fixed array; no allocation after
// construction; clear() costs nothing. A table with groups knows which entries share one, too.

#include <cstdint>
#include <type_traits>
#include <vector>

namespace twinwalk::processor {

enum class Groups : bool { kNone, kKept };

template <class Value, Groups kGroups = Groups::kNone>
class AgedTable {
 public:
  // At most `capacity` entries (1..16384); `limit` may lower that later.
  explicit AgedTable(unsigned capacity) : entries_(capacity + 1u), limit_(capacity) {
    unsigned slots = 64;
    while (slots < capacity * 4) slots *= 2;
    slots_.resize(slots);
    if (kGroups == Groups::kKept) chains_.resize(slots);
    mask_ = slots - 1;
    clear();
  }

  void clear() {
    if (++generation_ == 0) {
      for (Slot& s : slots_) s.generation = 0;
      for (Slot& s : chains_) s.generation = 0;
      generation_ = 1;
    }
    size_ = used_ = 0;
    free_ = kNone;
    entries_[kHead].next = entries_[kHead].previous = kHead;
  }
  // Precondition: the table is empty. 0 < limit <= capacity.
  void set_limit(unsigned limit) { limit_ = limit; }
  unsigned size() const { return size_; }

  Value* find(std::uint64_t key) {
    if (size_ == 0) return nullptr;
    const unsigned i = place_of(key);
    return is_taken(i) ? &entries_[slots_[i].entry].value : nullptr;
  }

  // The entry of `key`, made if need be; an entry that is there already becomes the youngest. What
  // it holds is left over from before: the caller fills it. `group`: any number, where groups are
  // kept.
  Value& insert(std::uint64_t key, std::uint64_t group = 0) {
    unsigned i = place_of(key);
    if (is_taken(i)) {
      const std::uint16_t n = slots_[i].entry;
      unlink(entries_[n]);
      link_youngest(n);
      leave_group(n);
      join_group(n, group);
      return entries_[n].value;
    }
    if (size_ == limit_) {
      erase(entries_[entries_[kHead].next].key);
      i = place_of(key);  // entries may have moved up
    }
    const std::uint16_t n = take_entry();
    entries_[n].key = key;
    link_youngest(n);
    join_group(n, group);
    slots_[i] = {generation_, n};
    ++size_;
    return entries_[n].value;
  }

  bool erase(std::uint64_t key) {
    if (size_ == 0) return false;
    const unsigned i = place_of(key);
    if (!is_taken(i)) return false;
    release_entry(slots_[i].entry);
    close_gap(i);
    --size_;
    return true;
  }

  // From the oldest to the youngest.
  template <class Predicate>
  void erase_if(Predicate predicate) {
    for (std::uint16_t n = entries_[kHead].next; n != kHead;) {
      const Entry& e = entries_[n];
      const std::uint16_t next = e.next;
      if (predicate(e.key, e.value)) erase(e.key);
      n = next;
    }
  }
  // Of one group, in no particular order.
  template <class Predicate>
  void erase_in_group_if(std::uint64_t group, Predicate predicate) {
    static_assert(kGroups == Groups::kKept);
    const Slot& chain = chains_[home(group)];
    if (chain.generation != generation_) return;
    for (std::uint16_t n = chain.entry; n != kNone;) {
      const Entry& e = entries_[n];
      const std::uint16_t next = e.group_next;
      if (e.group == group && predicate(e.key, e.value)) erase(e.key);
      n = next;
    }
  }
  template <class Predicate>
  bool any(Predicate predicate) const {
    for (std::uint16_t n = entries_[kHead].next; n != kHead; n = entries_[n].next) {
      if (predicate(entries_[n].key, entries_[n].value)) return true;
    }
    return false;
  }

 private:
  static constexpr std::uint16_t kHead = 0, kNone = 0;  // entry 0 is the list's head, never a value
  struct Ungrouped {};
  struct Grouped {
    std::uint64_t group = 0;
    std::uint16_t group_next = 0, group_previous = 0;  // of its chain, where others may be, too
  };
  struct Entry : std::conditional_t<kGroups == Groups::kKept, Grouped, Ungrouped> {
    std::uint64_t key = 0;
    Value value{};
    std::uint16_t next = 0, previous = 0;
  };
  struct Slot {
    std::uint32_t generation = 0;
    std::uint16_t entry = 0;
  };

  unsigned mask() const { return mask_; }
  unsigned home(std::uint64_t key) const {
    return static_cast<unsigned>((key * 0x9E37'79B9'7F4A'7C15u) >> 40) & mask();
  }
  bool is_taken(unsigned i) const { return slots_[i].generation == generation_; }
  // The slot of `key`, or the free one where it would go.
  unsigned place_of(std::uint64_t key) const {
    unsigned i = home(key);
    while (is_taken(i) && entries_[slots_[i].entry].key != key) i = (i + 1) & mask();
    return i;
  }
  void unlink(const Entry& e) {
    entries_[e.previous].next = e.next;
    entries_[e.next].previous = e.previous;
  }
  void link_youngest(std::uint16_t n) {
    Entry& e = entries_[n];
    e.previous = entries_[kHead].previous;
    e.next = kHead;
    entries_[e.previous].next = n;
    entries_[kHead].previous = n;
  }
  void join_group(std::uint16_t n, std::uint64_t group) {
    if constexpr (kGroups == Groups::kKept) {
      Slot& chain = chains_[home(group)];
      if (chain.generation != generation_) chain = {generation_, kNone};
      Entry& e = entries_[n];
      e.group = group;
      e.group_previous = kNone;
      e.group_next = chain.entry;
      if (chain.entry != kNone) entries_[chain.entry].group_previous = n;
      chain.entry = n;
    }
  }
  void leave_group(std::uint16_t n) {
    if constexpr (kGroups == Groups::kKept) {
      const Entry& e = entries_[n];
      (e.group_previous ? entries_[e.group_previous].group_next : chains_[home(e.group)].entry) =
          e.group_next;
      if (e.group_next) entries_[e.group_next].group_previous = e.group_previous;
    }
  }
  std::uint16_t take_entry() {
    if (free_ == kNone) return static_cast<std::uint16_t>(++used_);
    const std::uint16_t n = free_;
    free_ = entries_[n].next;
    return n;
  }
  void release_entry(std::uint16_t n) {
    Entry& e = entries_[n];
    unlink(e);
    leave_group(n);
    e.next = free_;
    free_ = n;
  }
  // Moves later members of the probe sequence up, so that searches need no tombstones.
  void close_gap(unsigned gap) {
    for (unsigned i = (gap + 1) & mask(); slots_[i].generation == generation_;
         i = (i + 1) & mask()) {
      const unsigned h = home(entries_[slots_[i].entry].key);
      if (((i - h) & mask()) >= ((i - gap) & mask())) {
        slots_[gap] = slots_[i];
        gap = i;
      }
    }
    slots_[gap].generation = generation_ - 1;
  }

  std::vector<Entry> entries_;
  std::vector<Slot> slots_;
  std::vector<Slot> chains_;  // the first entry of each
  std::uint32_t generation_ = 0;
  unsigned mask_ = 0, size_ = 0, used_ = 0, limit_;
  std::uint16_t free_ = kNone;
};

}  // namespace twinwalk::processor

#endif  // TWINWALK_HARNESS_PROCESSOR_AGED_TABLE_H_
