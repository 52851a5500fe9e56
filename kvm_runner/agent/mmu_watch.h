#ifndef TWINWALK_KVM_RUNNER_AGENT_MMU_WATCH_H_
#define TWINWALK_KVM_RUNNER_AGENT_MMU_WATCH_H_

// What KVM's MMU does while a program runs, by its tracepoints `kvmmmu:*`: which kinds of shadow
// pages it makes, syncs and zaps, which kinds of entries it writes and reads, and what follows
// what.

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "kvm_runner/remote/seen_map.h"

namespace twinwalk::agent {

class MmuWatch {
 public:
  MmuWatch() = default;
  ~MmuWatch();
  MmuWatch(const MmuWatch&) = delete;
  MmuWatch& operator=(const MmuWatch&) = delete;

  // Switches the events on. False, and why, on a kernel without them, or if that is not allowed.
  bool open(std::string& why);
  bool is_open() const { return !buffers_.empty(); }
  // What else is counted of a program goes in here, before take_news().
  remote::SeenMap& map() { return map_; }

  // What happened up to now is nobody's.
  void begin();
  // What the program that ran since was the first to reach (seen_map.h).
  std::string take_news();

 private:
  // A field whose value says something about a state, and not only where it is.
  struct Telling {
    unsigned offset, size;
    std::uint64_t mask;
  };
  struct Kind {
    std::uint64_t feature = 0;
    std::vector<Telling> fields;
  };

  void learn_kind(const std::string& format);
  void read_buffers(bool count);
  void count_page(std::size_t bytes);

  std::vector<int> buffers_;  // one a CPU
  std::map<unsigned, Kind> kinds_;
  std::uint64_t previous_ = 0;  // feature of the kind of event before
  remote::SeenMap map_;
  std::array<std::uint8_t, 4096> page_{};
};

}  // namespace twinwalk::agent

#endif  // TWINWALK_KVM_RUNNER_AGENT_MMU_WATCH_H_
