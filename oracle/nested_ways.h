#ifndef TWINWALK_ORACLE_NESTED_WAYS_H_
#define TWINWALK_ORACLE_NESTED_WAYS_H_

// What a course chooses from: values that may be in use at one entry, and the ways of one
// guest-physical address through the second dimension. For course_walker.h alone.

#include <algorithm>
#include <array>
#include <cstdint>

#include "oracle/course.h"
#include "oracle/image.h"
#include "oracle/nested_format.h"
#include "oracle/walk.h"

namespace twinwalk::oracle::walking {

// A value that may be in use at an entry.
struct Choice {
  std::uint64_t value = 0;
  Time begin = 0;
  Time end = kStillThere;
  bool old = false;
  bool without_flags = false;  // cached while A and D of EPT were not looked at
  std::uint64_t doubted = 0;  // open bits of it (open_bits.h) that decide what it is: taken as here
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

// Former entries above the leaf whose paging-structure entry a violation nearby has dropped: what
// is below must have been walked before, and be kept by a smaller structure entry that the
// violation did not drop, or as a translation. SDM 3C §"Operations that Invalidate Cached
// Mappings".
class DroppedStructures {
 public:
  bool any() const { return count_ != 0; }
  void add(Time violated, Time end) { at_[count_++] = {violated, end}; }
  // An entry below that came at `begin`; what the walk that was violated has set came before that.
  // False: it was never walked with those.
  bool goes_on_with(Time begin) const {
    return std::all_of(at_.begin(), at_.begin() + count_,
                       [=](const Dropped& d) { return begin <= d.violated; });
  }
  // Below, the latest violation that drops a structure entry is `violated`.
  void kept_below(Time violated) {
    unsigned left = 0;
    for (unsigned i = 0; i < count_; ++i)
      if (violated >= at_[i].end) at_[left++] = at_[i];
    count_ = left;
  }

 private:
  struct Dropped {
    Time violated, end;
  };
  std::array<Dropped, kMaxLevels> at_;
  unsigned count_ = 0;
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
    std::uint64_t at, may, must;
  };
  std::array<Due, 16> due;  // what it sets; nothing is written to the rest
  unsigned count = 0;
  std::uint64_t leaf_at = 0;  // kHpa: of the entry that maps the page
  std::array<Doubt, 2> doubts;
  unsigned doubt_count = 0;

  void add_due(std::uint64_t entry_at, std::uint64_t bits) {
    if (bits != 0) due[count++] = {entry_at, bits, bits};
  }
  // Past the last one: that it was doubted is forgotten, and it stays open.
  void add_doubt(const Doubt& d) {
    if (d.bits != 0 && doubt_count < doubts.size()) doubts[doubt_count++] = d;
  }
  bool has_doubt(const Doubt& d) const {
    return std::find(doubts.begin(), doubts.begin() + doubt_count, d) !=
           doubts.begin() + doubt_count;
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
    // What only one of them takes for settled is not.
    const unsigned had = doubt_count;
    doubt_count = 0;
    for (unsigned i = 0; i < had; ++i)
      if (other.has_doubt(doubts[i])) doubts[doubt_count++] = doubts[i];
    flags = flags || other.flags;
    old = old && other.old;
    before = std::max(before, other.before);
    latest = std::min(latest, other.latest);
    return true;
  }
};

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

}  // namespace twinwalk::oracle::walking

#endif  // TWINWALK_ORACLE_NESTED_WAYS_H_
