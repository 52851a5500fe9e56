#ifndef TWINWALK_ORACLE_DIRTY_LOG_H_
#define TWINWALK_ORACLE_DIRTY_LOG_H_

// What the guest wrote to each logged memslot since the last collection.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "harness/trace/machine.h"
#include "oracle/memslots.h"

namespace twinwalk::oracle {

class DirtyLog {
 public:
  // The number by which this class knows a slot of an address space.
  static unsigned number(std::uint64_t space, std::uint64_t slot) {
    return static_cast<unsigned>(space * kMaxSlots + slot);
  }
  // Forgets all slots. Costs what was logged.
  void reset();
  // Logging of a slot begins (again): nothing is owed yet.
  void clear(unsigned slot);
  // The same, but all of it is owed until it is cleared.
  void set_all(unsigned slot, const Memslot& where);
  // Of [first, first + pages) nothing is owed any more: the host cleared it.
  void clear_range(unsigned slot, std::uint64_t first, std::uint64_t pages);
  // The slot begins at that gfn now, and took its log along.
  void moved(unsigned slot, std::uint64_t gfn);
  // The guest wrote to the page of `gpa`, which lies in `slot`, which logs.
  void note(unsigned slot, const Memslot& where, std::uint64_t gpa);
  // A gfn that is owed and not among these, which are sorted. Costs what is owed and what is given.
  std::optional<std::uint64_t> missing(unsigned slot, std::span<const std::uint64_t> given) const;

 private:
  struct Log {
    std::vector<std::uint64_t> gfns;    // owed, unsorted, no duplicates
    std::vector<std::uint64_t> bitmap;  // by page of the slot
    std::uint64_t first = 0;            // gfn of bit 0, as long as gfns is not empty
  };
  std::array<Log, kSpaces * kMaxSlots> logs_;
};

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_DIRTY_LOG_H_
