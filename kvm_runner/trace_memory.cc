#include "kvm_runner/trace_memory.h"

#include <algorithm>
#include <cstring>

#include "harness/trace/content.h"

namespace twinwalk::kvm {

bool TraceMemory::reset(const Machine& machine, const Layout& layout) {
  layout_ = layout;
  backing_.reset(machine.host_page_level > 1);
  slots_.reset(machine);
  planted_.clear();
  return backing_.seed(0, machine.memory_bytes());
}

bool TraceMemory::is_planted(std::uint64_t offset) const {
  return std::any_of(planted_.begin(), planted_.end(),
                     [&](const Planted& p) { return p.offset / 8 == offset / 8; });
}

std::uint64_t TraceMemory::entry_at(const Planted& p) const {
  return extract(backing_.word(p.offset & ~std::uint64_t{7}), p.offset & 7, p.bytes);
}

void TraceMemory::put(const Planted& p) { std::memcpy(backing_.at(p.offset), &p.value, p.bytes); }

bool TraceMemory::offset_of(std::uint64_t gpa, std::uint64_t& offset) const {
  const Slot* slot = slots_.find(gpa);
  if (slot == nullptr) return false;
  offset = slot->offset + (gpa - slot->gpa);
  return true;
}

std::uint64_t TraceMemory::trace_word(std::uint64_t offset) const {
  std::uint64_t word = backing_.word(offset);
  for (const Planted& p : planted_) {
    if (p.offset / 8 != offset / 8) continue;
    const unsigned shift = 8 * (p.offset & 7);
    const std::uint64_t mask = (p.bytes == 8 ? ~std::uint64_t{0} : bit(8 * p.bytes) - 1) << shift;
    word = (word & ~mask) | p.original << shift;
  }
  return word;
}

bool TraceMemory::read_word(std::uint64_t gpa, std::uint64_t& word) const {
  std::uint64_t offset = 0;
  if (!offset_of(gpa, offset)) return false;
  word = trace_word(offset);
  return true;
}

bool TraceMemory::is_trace_word(std::uint64_t gpa) const {
  std::uint64_t offset = 0;
  return !offset_of(gpa, offset) || !is_planted(offset);
}

bool TraceMemory::touches_runner(std::uint64_t gpa, std::uint64_t bytes) const {
  if (layout_.overlaps(gpa, bytes)) return true;
  for (std::uint64_t at = gpa & ~std::uint64_t{7}; at < gpa + bytes; at += 8) {
    if (!is_trace_word(at)) return true;
  }
  return false;
}

bool TraceMemory::write(std::uint64_t gpa, unsigned size, std::uint64_t value) {
  std::uint64_t first = 0, last = 0;
  if (!offset_of(gpa, first) || !offset_of(gpa + size - 1, last)) return false;
  for (unsigned i = 0; i < size; ++i) {
    std::uint64_t offset = 0;
    offset_of(gpa + i, offset);
    *backing_.at(offset) = static_cast<unsigned char>(value >> (8 * i));
  }
  return true;
}

bool TraceMemory::plant(Mode mode, std::uint64_t root) {
  const RunnerEntry entry = layout_.entry_of(mode);
  return (mode != Mode::kPae || !is_among_pdptes(entry, root)) && plant_entry(root, entry);
}

// Whether the runner's entry of a root of another mode is one of the four, all of which a processor
// may load.
bool TraceMemory::is_among_pdptes(const RunnerEntry& entry, std::uint64_t root) const {
  std::uint64_t array = 0;
  return offset_of(root, array) &&
         std::any_of(planted_.begin(), planted_.end(), [&](const Planted& p) {
           return p.offset - array < 32 && p.offset != array + entry.offset;
         });
}

bool TraceMemory::plant_entry(std::uint64_t table, const RunnerEntry& entry) {
  if (entry.bytes == 0) return true;
  Planted planted{0, entry.bytes, entry.value, 0};
  if (!offset_of(table + entry.offset, planted.offset)) return false;
  for (Planted& p : planted_) {
    if (p.offset == planted.offset && p.bytes == planted.bytes) {
      // With the value of this mode, and without an A that a processor has set in a PDPTE, where
      // Intel's takes it for an error.
      p.value = planted.value;
      put(p);
      return true;
    }
    const bool overlaps =
        p.offset < planted.offset + planted.bytes && planted.offset < p.offset + p.bytes;
    if (overlaps) return false;  // that of another mode
  }
  planted.original = entry_at(planted);
  if ((planted.original & pte::kP) != 0) return false;
  planted_.push_back(planted);
  put(planted);
  return true;
}

bool TraceMemory::has_planted(Mode mode, std::uint64_t root) const {
  const RunnerEntry entry = layout_.entry_of(mode);
  std::uint64_t offset = 0;
  return offset_of(root + entry.offset, offset) &&
         std::any_of(planted_.begin(), planted_.end(), [&](const Planted& p) {
           return p.offset == offset && p.bytes == entry.bytes && entry_at(p) == entry.value;
         });
}

bool TraceMemory::planted_intact() const {
  return std::all_of(planted_.begin(), planted_.end(),
                     [&](const Planted& p) { return ((entry_at(p) ^ p.value) & ~pte::kA) == 0; });
}

bool TraceMemory::discard(std::uint64_t offset, std::uint64_t bytes) {
  if (!backing_.discard(offset, bytes)) return false;
  for (Planted& p : planted_) {
    if (p.offset - offset >= bytes) continue;
    p.original = 0;
    put(p);
  }
  return true;
}

}  // namespace twinwalk::kvm
