#ifndef TWINWALK_KVM_RUNNER_AGENT_MMU_STATS_H_
#define TWINWALK_KVM_RUNNER_AGENT_MMU_STATS_H_

// What KVM counts of its MMU while a program runs (KVM_GET_STATS_FD), of the VM and of each vCPU:
// how often it emulated, missed its cache of shadow pages, flushed, recycled. What the tracepoints
// do not tell: how many.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kvm_runner/remote/seen_map.h"
#include "kvm_runner/subjects.h"

namespace twinwalk::agent {

struct Stat {
  enum class Kind : std::uint8_t { kSum, kNow, kPeak, kOther };  // kOther: histograms
  std::string name;
  Kind kind = Kind::kSum;
  std::uint32_t offset = 0;  // of its value from the start of the file, eight bytes
};

// How many bytes of the file's start say what is in it; 0 if `header` is none.
std::size_t bytes_of_stats_head(std::span<const std::uint8_t> header);
inline constexpr std::size_t kStatsHeader = 24;
// What those bytes say. False if they are no such file's. Documentation/virt/kvm/api.rst,
// §"KVM_GET_STATS_FD".
bool parse_stats_head(std::span<const std::uint8_t> head, std::vector<Stat>& stats);

// Whether it says something of the MMU.
bool is_of_mmu(const Stat& stat);

class MmuStats final : public VmWatcher {
 public:
  explicit MmuStats(remote::SeenMap& map) : map_(map) {}
  ~MmuStats() override { close_files(); }
  MmuStats(const MmuStats&) = delete;
  MmuStats& operator=(const MmuStats&) = delete;

  void program_begins(int vm, std::span<const int> vcpus) override;
  void program_ended() override;

 private:
  struct Watched {
    Stat stat;
    std::uint64_t feature = 0;
  };
  struct File {
    int fd = -1;
    const std::vector<Watched>* stats = nullptr;
    std::vector<std::uint64_t> before;
  };

  void open_file(int of, std::vector<Watched>& stats);
  static bool learn(int fd, std::vector<Watched>& stats);
  static void read_values(const File& file, std::vector<std::uint64_t>& values);
  void close_files();

  remote::SeenMap& map_;
  std::vector<Watched> of_vm_, of_vcpu_;  // the same for every VM of a kernel
  std::vector<File> files_;
  std::vector<std::uint64_t> after_;
};

}  // namespace twinwalk::agent

#endif  // TWINWALK_KVM_RUNNER_AGENT_MMU_STATS_H_
