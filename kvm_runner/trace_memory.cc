#include "kvm_runner/trace_memory.h"

#include <cstring>

#include "kvm_runner/layout.h"

namespace twinwalk::kvm {

bool TraceMemory::reset(const Machine& machine) {
  backing_.reset();
  slots_.reset(machine);
  planted_.clear();
  return backing_.seed(0, machine.memory_bytes());
}

const TraceMemory::Planted* TraceMemory::planted_at(std::uint64_t offset) const {
  for (const Planted& p : planted_) {
    if (p.offset == offset) return &p;
  }
  return nullptr;
}

bool TraceMemory::offset_of(std::uint64_t gpa, std::uint64_t& offset) const {
  const Slot* slot = slots_.find(gpa);
  if (slot == nullptr) return false;
  offset = slot->offset + (gpa - slot->gpa);
  return true;
}

std::uint64_t TraceMemory::trace_word(std::uint64_t offset) const {
  const Planted* p = planted_at(offset);
  return p != nullptr ? p->original : backing_.word(offset);
}

bool TraceMemory::read_word(std::uint64_t gpa, std::uint64_t& word) const {
  std::uint64_t offset = 0;
  if (!offset_of(gpa, offset)) return false;
  word = trace_word(offset);
  return true;
}

bool TraceMemory::is_trace_word(std::uint64_t gpa) const {
  std::uint64_t offset = 0;
  return !offset_of(gpa, offset) || planted_at(offset) == nullptr;
}

bool TraceMemory::touches_runner(std::uint64_t gpa, std::uint64_t bytes) const {
  if (overlaps_harness(gpa, bytes)) return true;
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

bool TraceMemory::plant(std::uint64_t root) {
  std::uint64_t offset = 0;
  if (!offset_of(root + kRootEntryOffset, offset)) return false;
  if (planted_at(offset) != nullptr) return true;
  const std::uint64_t original = backing_.word(offset);
  if ((original & pte::kP) != 0) return false;
  planted_.push_back({offset, original});
  backing_.word(offset) = kRootEntry;
  return true;
}

bool TraceMemory::planted_intact() const {
  for (const Planted& p : planted_) {
    if (backing_.word(p.offset) != kRootEntry) return false;
  }
  return true;
}

bool TraceMemory::discard(std::uint64_t offset, std::uint64_t bytes) {
  if (!backing_.discard(offset, bytes)) return false;
  for (Planted& p : planted_) {
    if (p.offset - offset >= bytes) continue;
    p.original = 0;
    backing_.word(p.offset) = kRootEntry;
  }
  return true;
}

}  // namespace twinwalk::kvm
