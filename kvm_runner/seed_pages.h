#ifndef TWINWALK_KVM_RUNNER_SEED_PAGES_H_
#define TWINWALK_KVM_RUNNER_SEED_PAGES_H_

// What pages of hva space hold at the start of a trace, computed once: a page of seeds costs a copy
// from then on. A 2M page of the host's is 512 of them, in every trace that has one.

#include <array>
#include <bitset>
#include <cstdint>
#include <memory>

namespace twinwalk::kvm {

class SeedPages {
 public:
  // The seed words of the page at `offset` of hva space, which is a multiple of 4K. Good until the
  // next call.
  const std::uint64_t* at(std::uint64_t offset);

 private:
  static constexpr std::uint64_t kPageBytes = 4096, kRegionBytes = std::uint64_t{2} << 20;
  // Traces have memory in a few places, and most of them in the same ones. Together just short of a
  // power of two, of which heaps make blocks: the image's may be no larger than 40M.
  static constexpr std::size_t kMostRegions = 7;

  struct Region {
    std::uint64_t base = ~std::uint64_t{0};
    std::uint64_t used = 0;  // the latest call that asked for it; the least recent one is given up
    std::bitset<kRegionBytes / kPageBytes> computed;
  };
  Region& region_of(std::uint64_t base);

  std::array<Region, kMostRegions> regions_;
  std::unique_ptr<std::uint64_t[]> words_;  // of one region after the other
  std::uint64_t calls_ = 0;
  std::size_t last_ = 0;
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_SEED_PAGES_H_
