#ifndef MMU_CORE_PAGE_HASH_H_
#define MMU_CORE_PAGE_HASH_H_

// Shadow pages by gfn (KVM: mmu_page_hash). It grows with the pages in use, so that a lookup costs
// the same beside ten of them and beside a hundred thousand, and a new VM has little to clear.

#include "mmu_core/platform.h"
#include "mmu_core/shadow_page.h"

namespace mmu {

class PageHash {
 public:
  explicit PageHash(Platform& platform) : platform_(platform) {}
  PageHash(const PageHash&) = delete;
  PageHash& operator=(const PageHash&) = delete;

  // Head of the chain, by hash_next and newest first, that holds all pages of `gfn` among others.
  ShadowPage*& chain(Gfn gfn) {
    return bucket_[(gfn.raw * 0x9E37'79B9'7F4A'7C15u) >> (64 - bits_)];
  }
  // More buckets if `used` pages fill those that there are; as before if no memory is left.
  // `oldest`: all pages that are hashed, by `prev` from the oldest to the newest.
  void fit(u32 used, ShadowPage* oldest);
  // Back to the fewest buckets. Precondition: no page is hashed.
  void shrink();

 private:
  static constexpr u32 kFewestBits = 6, kGrowth = 3;  // a growth by 2^3
  static constexpr u32 kPagesPerBucket = 2;

  Platform& platform_;
  ShadowPage* few_[u32{1} << kFewestBits] = {};
  ShadowPage** bucket_ = few_;
  u32 bits_ = kFewestBits;
};

}  // namespace mmu

#endif  // MMU_CORE_PAGE_HASH_H_
