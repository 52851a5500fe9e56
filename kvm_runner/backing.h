#ifndef TWINWALK_KVM_RUNNER_BACKING_H_
#define TWINWALK_KVM_RUNNER_BACKING_H_

// The host-virtual address space of a trace, [kHvaBase, kHvaBase + 4 GiB), as memory of this
// process.
//
// Seeds lie in a file in memory that is written once; a trace sees it copy-on-write, so that
// starting the next one costs what the last one changed. What the host does to its memory is done
// by real mappings, which KVM learns of through its notifier like any other.

#include <cstdint>
#include <string>
#include <vector>

#include "harness/trace/machine.h"

namespace twinwalk::kvm {

class Backing {
 public:
  static constexpr std::uint64_t kSpan = std::uint64_t{4} << 30;
  // Most that will be filled with seeds, over all traces of a process: beyond it steps are skipped.
  static constexpr std::uint64_t kMostSeeded = std::uint64_t{512} << 20;

  Backing() = default;
  ~Backing();
  Backing(const Backing&) = delete;
  Backing& operator=(const Backing&) = delete;

  bool open(std::string& why);

  // Every page holds its seed again. No memslot may be using the memory. `huge`: the first
  // kMostHuge chunks of what is seeded from now on lie on 2M pages, if the host finds any.
  void reset(bool huge = false);

  // Makes sure that [offset, offset + bytes) holds seeds. False beyond kMostSeeded; offsets are
  // from kHvaBase.
  bool seed(std::uint64_t offset, std::uint64_t bytes);

  unsigned char* at(std::uint64_t offset) { return memory_ + offset; }
  // The word at `offset`, 8-aligned.
  std::uint64_t& word(std::uint64_t offset) {
    return *reinterpret_cast<std::uint64_t*>(memory_ + offset);
  }
  std::uint64_t word(std::uint64_t offset) const {
    return *reinterpret_cast<const std::uint64_t*>(memory_ + offset);
  }

  // The frames of the range are given back; the next touch finds new, zeroed ones. Page-aligned.
  bool discard(std::uint64_t offset, std::uint64_t bytes);
  // The contents of the range move to frames that are shared until written: the host's mapping of
  // them is read-only, and a write gets a frame of its own.
  bool share(std::uint64_t offset, std::uint64_t bytes);
  // The host maps the 2M around `offset` page by page; the frames stay.
  bool split(std::uint64_t offset);
  // The contents of the 2M around `offset` move to a 2M page, if the host finds one.
  bool collapse(std::uint64_t offset);

 private:
  static constexpr std::uint64_t kChunk = 2 << 20;  // unit of seeding, and a huge page
  // Of a range: each is filled anew for every program, which in emulated hosts takes some ms.
  static constexpr unsigned kMostHuge = 4;

  bool map_seeds();
  // Fresh memory on a 2M page, if the host finds one; nullptr if there is none at all.
  unsigned char* fresh_chunk(std::uint64_t chunk);
  // What the chunk holds at the program's start.
  bool begin_chunk(std::uint64_t chunk, bool huge);

  int seeds_ = -1, copies_ = -1;  // memfds: seeds; contents moved by share()
  std::uint64_t copied_ = 0;
  std::uint64_t seeded_ = 0;
  std::vector<bool> chunks_;
  bool huge_ = false;
  std::vector<bool> has_begun_;  // chunks that stay on the pages they are on
  unsigned char* memory_ = nullptr;
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_BACKING_H_
