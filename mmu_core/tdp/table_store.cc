#include "mmu_core/tdp/table_store.h"

#include <cstring>
#include <new>

namespace mmu::tdp {

namespace {

Table* allocate_table(Platform& platform, TableReach reach) {
  void* const object = platform.alloc_object(sizeof(Table));
  if (!object) return nullptr;
  auto* const table = new (object) Table;
  if (!platform.alloc_table(reach, table->hpa, table->entry)) {
    platform.free_object(table, sizeof(Table));
    return nullptr;
  }
  platform.set_descriptor(table->hpa, table);
  return table;
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
  if (table->external != Hpa{}) platform.free_table(table->external);
  if (table->links) platform.free_object(table->links, sizeof(Links));
  platform.free_object(table, sizeof(Table));
}

void free_after_readers(Platform& platform, Table* table) {
  platform.free_table_after_readers(table->hpa);
  if (table->external != Hpa{}) platform.free_table(table->external);  // readers have no way to it
  if (table->links) platform.free_object_after_readers(table->links, sizeof(Links));
  platform.free_object_after_readers(table, sizeof(Table));
}

Table* allocate_empty(Platform& platform, unsigned level) {
  Table* const table = level > 1 ? allocate_root(platform, TableReach::kAnywhere)
                                 : allocate_table(platform, TableReach::kAnywhere);
  if (table) table->level = static_cast<u8>(level);
  return table;
}

bool TableStore::top_up(Platform& platform, bool external) {
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
  while (external && externals_ < kTables) {
    u64* unused = nullptr;
    if (!platform.alloc_table(TableReach::kAnywhere, external_[externals_], unused)) return false;
    ++externals_;
  }
  return true;
}

void TableStore::drain(Platform& platform) {
  while (tables_) free_now(platform, table_[--tables_]);
  while (links_) platform.free_object(link_[--links_], sizeof(Links));
  while (externals_) platform.free_table(external_[--externals_]);
}

Table* TableStore::take(Platform& platform, unsigned level, bool mirror) {
  if (!tables_ || (level > 1 && !links_) || (mirror && !externals_))
    platform.panic("memory cache ran dry: table of the second dimension");
  Table* const table = table_[--tables_];
  table->level = static_cast<u8>(level);
  if (level > 1) table->links = link_[--links_];
  if (mirror) table->external = external_[--externals_];
  return table;
}

void TableStore::give_back(Platform& platform, Table* table) {
  Links* const links = table->links;
  if (links && links_ < kLinks) {
    link_[links_++] = links;
    table->links = nullptr;
  }
  if (table->external != Hpa{} && externals_ < kTables) {
    external_[externals_++] = table->external;
    table->external = Hpa{};
  }
  if (tables_ < kTables && !table->links && table->external == Hpa{}) {
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
