#include "mmu_core/memory_cache.h"

#include <new>

namespace mmu {

bool MemoryCaches::top_up() {
  while (tables_ < kPages) {
    TablePage& t = table_[tables_];
    if (!platform_.alloc_table(TableReach::kAnywhere, t.hpa, t.ptr)) return false;
    ++tables_;
  }
  while (descriptors_ < kPages) {
    void* p = platform_.alloc_object(sizeof(ShadowPage));
    if (!p) return false;
    descriptor_[descriptors_++] = static_cast<ShadowPage*>(p);
  }
  while (infos_ < kPages) {
    void* p = platform_.alloc_object(sizeof(EntryInfo));
    if (!p) return false;
    info_[infos_++] = static_cast<EntryInfo*>(p);
  }
  while (chains_ < kChains) {
    void* p = platform_.alloc_object(sizeof(RmapChain));
    if (!p) return false;
    chain_[chains_++] = new (p) RmapChain;
  }
  while (chunks_ < kChunks) {
    void* p = platform_.alloc_object(sizeof(SlotChunk));
    if (!p) return false;
    chunk_[chunks_++] = static_cast<SlotChunk*>(p);
  }
  return true;
}

void MemoryCaches::drain() {
  while (tables_) platform_.free_table(table_[--tables_].hpa);
  while (descriptors_) platform_.free_object(descriptor_[--descriptors_], sizeof(ShadowPage));
  while (infos_) platform_.free_object(info_[--infos_], sizeof(EntryInfo));
  while (chains_) platform_.free_object(chain_[--chains_], sizeof(RmapChain));
  while (chunks_) platform_.free_object(chunk_[--chunks_], sizeof(SlotChunk));
}

ShadowPage* MemoryCaches::take_page() {
  if (!tables_ || !descriptors_ || !infos_) platform_.panic("memory cache ran dry: shadow page");
  auto* page = new (descriptor_[--descriptors_]) ShadowPage;
  const TablePage& t = table_[--tables_];
  page->hpa = t.hpa;
  page->spt = t.ptr;
  page->info = info_[--infos_];
  platform_.set_descriptor(page->hpa, page);
  return page;
}

void free_page(Platform& platform, ShadowPage* page) {
  platform.free_table(page->hpa);
  platform.free_object(page->info, sizeof(EntryInfo));
  platform.free_object(page, sizeof(ShadowPage));
}

RmapChain* MemoryCaches::take_chain() {
  if (!chains_) platform_.panic("memory cache ran dry: chain descriptor");
  return chain_[--chains_];
}

SlotChunk& MemoryCaches::chunk_of(const Memslot& slot, Gfn gfn) {
  if (SlotChunk* const chunk = slot.chunk(gfn)) return *chunk;
  if (!chunks_) platform_.panic("memory cache ran dry: part of a memslot");
  auto* const fresh = new (chunk_[--chunks_]) SlotChunk;
  slot.hang_chunk(gfn, fresh);
  return *fresh;
}

}  // namespace mmu
