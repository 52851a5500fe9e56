#include "mmu_core/rmap.h"

#include "mmu_core/memory_cache.h"

namespace mmu::chain {
namespace {

RmapChain* chain_of(const RmapHead& head) { return reinterpret_cast<RmapChain*>(head.word); }

void set_chain(RmapHead& head, RmapChain* c) { head.word = reinterpret_cast<u64>(c); }

// Takes the last ref of the head descriptor off, and the descriptor with it when it is empty.
u64 pop(RmapHead& head, Platform& platform) {
  RmapChain* c = chain_of(head);
  const u64 ref = c->ref[--c->count];
  if (c->count == 0) {
    set_chain(head, c->more);
    platform.free_object(c, sizeof(RmapChain));
  }
  return ref;
}

}  // namespace

void add(RmapHead& head, SpteRef ref, MemoryCaches& caches) {
  if (!head.word) {
    head.word = ref.pack();
    return;
  }
  if (head.word & 1) {
    RmapChain* c = caches.take_chain();
    c->ref[0] = head.word;
    c->ref[1] = ref.pack();
    c->count = 2;
    set_chain(head, c);
    return;
  }
  RmapChain* c = chain_of(head);
  if (c->count == RmapChain::kRefs) {
    RmapChain* fresh = caches.take_chain();
    fresh->more = c;
    set_chain(head, fresh);
    c = fresh;
  }
  c->ref[c->count++] = ref.pack();
}

bool remove(RmapHead& head, SpteRef ref, Platform& platform) {
  const u64 want = ref.pack();
  if (head.word & 1) {
    if (head.word != want) return false;
    head.word = 0;
    return true;
  }
  for (RmapChain* c = chain_of(head); c; c = c->more) {
    for (u32 i = 0; i < c->count; ++i) {
      if (c->ref[i] != want) continue;
      u64* hole = &c->ref[i];
      const u64 last = chain_of(head)->ref[chain_of(head)->count - 1];
      *hole = last;
      pop(head, platform);
      return true;
    }
  }
  return false;
}

}  // namespace mmu::chain
