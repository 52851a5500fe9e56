#include "mmu_core/page_hash.h"

#include <cstring>

namespace mmu {

void PageHash::fit(u32 used, ShadowPage* oldest) {
  if (used <= kPagesPerBucket << bits_) return;
  const u32 bits = bits_ + kGrowth;
  const u64 bytes = sizeof(ShadowPage*) << bits;
  void* const storage = platform_.alloc_object(bytes);
  if (!storage) return;
  shrink();
  std::memset(storage, 0, bytes);
  bucket_ = static_cast<ShadowPage**>(storage);
  bits_ = bits;
  for (ShadowPage* p = oldest; p; p = p->prev) {
    ShadowPage*& head = chain(p->gfn);
    p->hash_next = head;
    head = p;
  }
}

void PageHash::shrink() {
  if (bucket_ == few_) return;
  platform_.free_object(bucket_, sizeof(ShadowPage*) << bits_);
  std::memset(few_, 0, sizeof few_);
  bucket_ = few_;
  bits_ = kFewestBits;
}

}  // namespace mmu
