#include "harness/processor/private_module.h"

#include <utility>

#include "harness/trace/x86.h"

namespace twinwalk::processor {
namespace {

constexpr std::uint64_t kTable = 0x000f'ffff'ffff'f000, kRights = 7, kEntries = 512;
constexpr std::uint64_t kWriteBack = 6;

constexpr unsigned shift_of(unsigned level) { return 9 * (level - 1); }  // of a gfn

// What the processor adds to an entry by itself.
constexpr std::uint64_t kFlags = bit(8) | bit(9);

}  // namespace

// SDM 3C §"Extended-Page-Table Pointer (EPTP)", §"EPT Translation Mechanism".
void PrivateModule::reset(const Machine& machine, std::uint64_t root) {
  const std::uint64_t levels = machine.host_levels == 5 ? 5 : 4;
  const bool flags = machine.tdp & tdp::kAd, by_mode = machine.tdp & tdp::kMbec;
  pointer_ = root | kWriteBack | (levels - 1) << 3 | (flags ? bit(6) : 0);
  link_ = kRights | (by_mode ? bit(10) : 0);
  leaf_ = link_ | kWriteBack << 3 | (flags ? kFlags : 0);
  held_ = 0;
  complaint_ = nullptr;
}

std::uint64_t PrivateModule::entry_at(std::uint64_t gfn, unsigned level) {
  std::uint64_t table = pointer_ & kTable;
  for (unsigned at = (pointer_ >> 3 & 7) + 1;; --at) {
    const std::uint64_t entry = table + (gfn >> shift_of(at)) % kEntries * 8;
    if (at == level) return entry;
    const std::uint64_t link = memory_.load_nested(entry);
    if (!(link & kRights)) break;
    table = link & kTable;
  }
  complain("what the module is asked for hangs below nothing");
  return 0;
}

// The processor may set flags meanwhile; what does not change and cannot be written is no table.
bool PrivateModule::replace(std::uint64_t at, std::uint64_t now) {
  std::uint64_t was = memory_.load_nested(at);
  while (!memory_.update_nested(at, was, now)) {
    const std::uint64_t is = memory_.load_nested(at);
    if (is == was) {
      complain("what the module is to write in is no table any more");
      return false;
    }
    was = is;
  }
  return true;
}

void PrivateModule::link(std::uint64_t gfn, unsigned level, std::uint64_t table) {
  const std::uint64_t at = entry_at(gfn, level + 1);
  if (at == 0) return;
  if (memory_.load_nested(at) != 0) return complain("the module is to link a table over another");
  if (gfn % (std::uint64_t{1} << shift_of(level + 1)) != 0)
    return complain("the module is to link a table in the middle of what it translates");
  if (replace(at, table | link_)) ++held_;
}

void PrivateModule::set_leaf(std::uint64_t gfn, std::uint64_t pfn) {
  const std::uint64_t at = entry_at(gfn, 1);
  if (at == 0) return;
  if (memory_.load_nested(at) != 0) return complain("the module is to map a page over another");
  if (replace(at, pfn << 12 | leaf_)) ++held_;
}

void PrivateModule::remove_leaf(std::uint64_t gfn, std::uint64_t pfn) {
  const std::uint64_t at = entry_at(gfn, 1);
  if (at == 0) return;
  if ((memory_.load_nested(at) & ~kFlags) != ((pfn << 12 | leaf_) & ~kFlags))
    return complain("the module is to remove a page that it does not map there");
  if (replace(at, 0)) --held_;
}

void PrivateModule::free_table(std::uint64_t gfn, unsigned level, std::uint64_t table) {
  const std::uint64_t at = entry_at(gfn, level + 1);
  if (at == 0) return;
  if ((memory_.load_nested(at) & ~kFlags) != (table | link_))
    return complain("the module is to free a table that it does not have there");
  for (std::uint64_t i = 0; i < kEntries; ++i)
    if (memory_.load_nested(table + 8 * i) != 0)
      return complain("the module is to free a table that is in use");
  if (replace(at, 0)) --held_;
}

void PrivateModule::complain(const char* what) {
  if (complaint_ == nullptr) complaint_ = what;
}

const char* PrivateModule::take_complaint() { return std::exchange(complaint_, nullptr); }

}  // namespace twinwalk::processor
