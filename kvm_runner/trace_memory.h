#ifndef TWINWALK_KVM_RUNNER_TRACE_MEMORY_H_
#define TWINWALK_KVM_RUNNER_TRACE_MEMORY_H_

// The memory of a trace on subject `kvm`: memslots over the backing, with the runner's root entry
// planted where a vCPU's root is, and hidden from whoever reads as the trace.

#include <cstdint>
#include <string>
#include <vector>

#include "kvm_runner/backing.h"
#include "kvm_runner/guest_memory.h"
#include "kvm_runner/layout.h"

namespace twinwalk::kvm {

class TraceMemory final : public WordReader {
 public:
  bool open(std::string& why) { return backing_.open(why); }
  // Slot 0 over seeds, the runner where `layout` says. False if the machine is larger than
  // Backing::kMostSeeded. No VM may be using the memory.
  bool reset(const Machine& machine, const Layout& layout);
  const Layout& layout() const { return layout_; }

  SlotTable& slots() { return slots_; }
  const SlotTable& slots() const { return slots_; }
  Backing& backing() { return backing_; }

  bool read_word(std::uint64_t gpa, std::uint64_t& word) const override;
  bool is_trace_word(std::uint64_t gpa) const override;
  // Whether any of the bytes is the runner's.
  bool touches_runner(std::uint64_t gpa, std::uint64_t bytes) const;

  // A store by the host, in a slot; may cross pages. False, and nothing stored, where there is no
  // slot.
  bool write(std::uint64_t gpa, unsigned size, std::uint64_t value);

  // Puts the runner's entry of that mode into the root table at gpa. False if there is no slot, or
  // if the trace has a present entry of its own in that place.
  bool plant(Mode mode, std::uint64_t root);
  // The same of any entry in a table at gpa.
  bool plant_entry(std::uint64_t table, const RunnerEntry& entry);
  // Whether plant() would change nothing.
  bool has_planted(Mode mode, std::uint64_t root) const;
  // Whether some of the word at that position is the runner's.
  bool is_planted(std::uint64_t offset) const;
  // False if a planted entry has been overwritten.
  bool planted_intact() const;

  // The host drops, or copies to other frames, what stands behind [offset, offset + bytes) of hva
  // space.
  bool discard(std::uint64_t offset, std::uint64_t bytes);
  bool share(std::uint64_t offset, std::uint64_t bytes) { return backing_.share(offset, bytes); }
  // 2M host pages come and go; what they hold stays.
  bool split(std::uint64_t offset) { return backing_.split(offset); }
  bool collapse(std::uint64_t offset) { return backing_.collapse(offset); }

  // Position in hva space of a gpa; false if there is no slot.
  bool offset_of(std::uint64_t gpa, std::uint64_t& offset) const;
  // The word at a position of hva space as the trace sees it.
  std::uint64_t trace_word(std::uint64_t offset) const;

 private:
  struct Planted {
    std::uint64_t offset;  // of the entry, in hva space
    unsigned bytes;
    std::uint64_t value, original;  // the runner's, and what the trace has there
  };
  bool is_among_pdptes(const RunnerEntry& entry, std::uint64_t root) const;
  std::uint64_t entry_at(const Planted& p) const;
  void put(const Planted& p);

  Backing backing_;
  SlotTable slots_;
  std::vector<Planted> planted_;
  Layout layout_;
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_TRACE_MEMORY_H_
