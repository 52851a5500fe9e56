#ifndef TWINWALK_HARNESS_PROCESSOR_PRIVATE_MODULE_H_
#define TWINWALK_HARNESS_PROCESSOR_PRIVATE_MODULE_H_

// What stands between the hypervisor and the tables of private memory with tdp=external, as the TDX
// module does: it alone writes them, and the processor walks them. It maps 4K pages with all
// rights, A and D set beforehand, so that nothing of them is logged.
//
// Its words are those of mmu::Platform: a table of `level` hangs in an entry of level + 1. What no
// module would accept it does not do, and complains.

#include <cstdint>

#include "harness/processor/physical_memory.h"
#include "harness/trace/machine.h"

namespace twinwalk::processor {

class PrivateModule {
 public:
  explicit PrivateModule(PhysicalMemory& memory) : memory_(memory) {}

  void remove() {
    pointer_ = held_ = 0;
    complaint_ = nullptr;
  }
  // `root`: a zeroed table. Precondition: has_module(machine).
  void reset(const Machine& machine, std::uint64_t root);
  // EPT_POINTER; 0: there is no module.
  std::uint64_t pointer() const { return pointer_; }

  void link(std::uint64_t gfn, unsigned level, std::uint64_t table);
  void set_leaf(std::uint64_t gfn, std::uint64_t pfn);
  // Not complete before the TLBs are flushed, which is the caller's part.
  void remove_leaf(std::uint64_t gfn, std::uint64_t pfn);
  void free_table(std::uint64_t gfn, unsigned level, std::uint64_t table);

  // Tables and pages that it has, but for the root.
  std::uint64_t held() const { return held_; }
  // The first thing that it refused since the last time; null if there is none.
  const char* take_complaint();

 private:
  // Where the entry of `level` for `gfn` lies; 0, and a complaint, if no path leads there.
  std::uint64_t entry_at(std::uint64_t gfn, unsigned level);
  // False, and a complaint: no table is there any more.
  bool replace(std::uint64_t at, std::uint64_t now);
  void complain(const char* what);

  PhysicalMemory& memory_;
  std::uint64_t pointer_ = 0, leaf_ = 0, link_ = 0;  // 0: none; bits of an entry
  std::uint64_t held_ = 0;
  const char* complaint_ = nullptr;
};

}  // namespace twinwalk::processor

#endif  // TWINWALK_HARNESS_PROCESSOR_PRIVATE_MODULE_H_
