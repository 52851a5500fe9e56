#include "kvm_runner/seed_pages.h"

#include "harness/trace/content.h"

namespace twinwalk::kvm {

SeedPages::Region& SeedPages::region_of(std::uint64_t base) {
  if (regions_[last_].base == base) return regions_[last_];
  std::size_t oldest = 0;
  for (last_ = 0; last_ < kMostRegions; ++last_) {
    if (regions_[last_].base == base) return regions_[last_];
    if (regions_[last_].used < regions_[oldest].used) oldest = last_;
  }
  last_ = oldest;
  regions_[last_] = {base, 0, {}};
  return regions_[last_];
}

const std::uint64_t* SeedPages::at(std::uint64_t offset) {
  // Not cleared: of most regions a few pages are asked for.
  if (words_ == nullptr) words_.reset(new std::uint64_t[kMostRegions * kRegionBytes / 8]);
  Region& region = region_of(offset & ~(kRegionBytes - 1));
  region.used = ++calls_;
  const std::uint64_t into = offset - region.base;
  std::uint64_t* const words = words_.get() + (last_ * kRegionBytes + into) / 8;
  if (!region.computed[into / kPageBytes]) {
    for (std::uint64_t i = 0; i < kPageBytes / 8; ++i) words[i] = seed_word(offset + 8 * i);
    region.computed.set(into / kPageBytes);
  }
  return words;
}

}  // namespace twinwalk::kvm
