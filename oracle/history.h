#ifndef TWINWALK_ORACLE_HISTORY_H_
#define TWINWALK_ORACLE_HISTORY_H_

// One vCPU's past: when what could last have been cached. (The past of the
// entries themselves is image.h's Version.)

#include <cstdint>
#include <iterator>
#include <vector>

#include "harness/trace/verdict.h"
#include "oracle/memslots.h"
#include "oracle/paging.h"

namespace twinwalk::oracle {

// The latest invalidation that covers something, and the rule that says it must.
struct Cover {
  Time time = 0;
  const Rule* rule = nullptr;
  friend const Cover& later(const Cover& a, const Cover& b) { return a.time >= b.time ? a : b; }
};

// What a walk starts from.
struct Root {
  std::uint64_t cr3 = 0;
  unsigned row = kRow4Level;  // of kModes
  PdpteRegisters pdptes;      // PAE with vendor=intel; else as they are by default
  friend bool operator==(const Root&, const Root&) = default;
};

// A root that was in use under a PCID during [begin, end).
struct UsedRoot {
  Root root;
  unsigned pcid = 0;
  Time begin = 0;
  Time end = 0;  // kStillThere while it is loaded
};

class History {
 public:
  // Starts with `root` loaded. Costs what was recorded.
  void reset(const Root& root);

  // Invalidations, at time `now`. `pcid` < 4096.
  void drop_everything(Time now, const Rule& rule);
  void drop_all_but_globals(Time now, const Rule& rule);
  void drop_pcid(unsigned pcid, Time now, const Rule& rule);        // except globals
  void drop_structures(unsigned pcid, Time now, const Rule& rule);  // paging-structure caches alone
  // The page of `bytes` (4K, 2M, 4M, 1G, as a mode has them) around gva: in one PCID, and global
  // ones. What was cached of it as a smaller page goes only where gva lies in that one.
  void drop_page(unsigned pcid, std::uint64_t gva, std::uint64_t bytes, Time now, const Rule& rule);
  void drop_global_page(std::uint64_t gva, std::uint64_t bytes, Time now, const Rule& rule);
  // A #PF: the page in that PCID. Of a global translation only its use under that PCID ends: the
  // manual promises that the fault will not recur, and names no other PCID.
  void fault_page(unsigned pcid, std::uint64_t gva, std::uint64_t bytes, Time now,
                  const Rule& rule);

  void load_root(const Root& root, unsigned pcid, Time now);

  // The latest invalidation that a translation of gva, cached from a page of at most `bytes`, must
  // have survived to serve under `pcid`.
  Cover translation(unsigned pcid, std::uint64_t gva, std::uint64_t bytes) const;
  Cover global_translation(unsigned pcid, std::uint64_t gva, std::uint64_t bytes) const;
  // The same for any paging-structure entry of the PCID.
  Cover structures(unsigned pcid) const;
  const std::vector<UsedRoot>& roots() const { return roots_; }

 private:
  static constexpr unsigned kPcids = 4096, kFaulted = kPcids, kGlobal = 2 * kPcids;
  static constexpr std::uint64_t kPageSizes[] = {bit(12), bit(21), bit(22), bit(30)};
  struct PageCover {
    std::uint64_t key = 0;
    std::uint32_t trace = 0;  // entry is of this trace iff equal to trace_
    Cover cover;
  };
  // Size above the 45 bits of a page number above the 14 of a tag: no two pages share a key.
  static std::uint64_t key_of(unsigned tag, std::uint64_t gva, std::uint64_t bytes) {
    std::uint64_t size = 0;
    while (size + 1 < std::size(kPageSizes) && kPageSizes[size] != bytes) ++size;
    const std::uint64_t number = (gva & ((std::uint64_t{1} << 57) - 1) & ~(bytes - 1)) >> 12;
    return size << 60 | number << 14 | tag;
  }
  PageCover& slot(std::uint64_t key);
  const PageCover* find(std::uint64_t key) const;
  void note_page(unsigned tag, std::uint64_t gva, std::uint64_t bytes, Time now, const Rule& rule);
  Cover page_cover(unsigned tag, std::uint64_t gva, std::uint64_t bytes) const;
  void grow();

  Cover everything_, all_but_globals_;
  Cover by_pcid_[kPcids];
  Cover structures_[kPcids];
  std::vector<std::uint16_t> touched_pcids_;
  std::vector<PageCover> pages_;
  std::size_t used_ = 0;
  std::uint32_t trace_ = 0;
  bool large_ = false;  // some drop_page was larger than 4K
  std::vector<UsedRoot> roots_;
};

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_HISTORY_H_
