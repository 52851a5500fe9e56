#include "mmu_core/tdp/table_store.h"

#include <cstring>
#include <new>

namespace mmu::tdp {

namespace {

Table* allocate_table(Platform& platform, TableReach reach) {
  void* const object = platform.alloc_object(sizeof(Table));
  if (!object) return nullptr;
  auto* const table = new (object) Table;
  if (platform.alloc_table(reach, table->hpa, table->entry)) return table;
  platform.free_object(table, sizeof(Table));
  return nullptr;
}

Links* allocate_links(Platform& platform) {
  auto* const links = static_cast<Links*>(platform.alloc_object(sizeof(Links)));
  if (links) std::memset(static_cast<void*>(links), 0, sizeof(Links));
  return links;
}

}  // namespace

Table* allocate_root(Platform& platform, TableReach reach) {
  Table* const table = allocate_table(platform, reach);
  if (!table) return nullptr;
  table->links = allocate_links(platform);
  if (table->links) return table;
  free_now(platform, table);
  return nullptr;
}

void free_now(Platform& platform, Table* table) {
  platform.free_table(table->hpa);
  if (table->links) platform.free_object(table->links, sizeof(Links));
  platform.free_object(table, sizeof(Table));
}

void free_after_readers(Platform& platform, Table* table) {
  platform.free_table_after_readers(table->hpa);
  if (table->links) platform.free_object_after_readers(table->links, sizeof(Links));
  platform.free_object_after_readers(table, sizeof(Table));
}

Table* allocate_empty(Platform& platform, unsigned level) {
  Table* const table = level > 1 ? allocate_root(platform, TableReach::kAnywhere)
                                 : allocate_table(platform, TableReach::kAnywhere);
  if (table) table->level = static_cast<u8>(level);
  return table;
}

bool TableStore::top_up(Platform& platform) {
  while (tables_ < kTables) {
    Table* const table = allocate_table(platform, TableReach::kAnywhere);
    if (!table) return false;
    table_[tables_++] = table;
  }
  while (links_ < kLinks) {
    Links* const links = allocate_links(platform);
    if (!links) return false;
    link_[links_++] = links;
  }
  return true;
}

void TableStore::drain(Platform& platform) {
  while (tables_) free_now(platform, table_[--tables_]);
  while (links_) platform.free_object(link_[--links_], sizeof(Links));
}

Table* TableStore::take(Platform& platform, unsigned level) {
  if (!tables_ || (level > 1 && !links_))
    platform.panic("memory cache ran dry: table of the second dimension");
  Table* const table = table_[--tables_];
  table->level = static_cast<u8>(level);
  if (level > 1) table->links = link_[--links_];
  return table;
}

void TableStore::give_back(Platform& platform, Table* table) {
  Links* const links = table->links;
  if (links && links_ < kLinks) {
    link_[links_++] = links;
    table->links = nullptr;
  }
  if (tables_ < kTables && !table->links) {
    const Hpa hpa = table->hpa;
    u64* const entry = table->entry;
    table_[tables_] = new (table) Table;
    table_[tables_]->hpa = hpa;
    table_[tables_++]->entry = entry;
  } else {
    free_now(platform, table);
  }
}

}  // namespace mmu::tdp
