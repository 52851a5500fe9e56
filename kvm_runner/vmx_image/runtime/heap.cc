#include "kvm_runner/vmx_image/runtime/heap.h"

#include <bit>
#include <cstddef>
#include <new>

#include "kvm_runner/vmx_image/runtime/stop.h"

namespace twinwalk::vmx {
namespace {

constexpr std::size_t kLeast = 32, kClasses = 40;

// Stands before every block; the block that it is of begins at `base`.
struct alignas(16) Header {
  std::uint64_t base;
  std::uint64_t size_class;
};
struct FreeBlock {
  FreeBlock* next;
};

std::uint64_t next = 0, limit = 0;
FreeBlock* free_blocks[kClasses];

// Null if there is no more.
void* take(std::size_t bytes, std::size_t alignment) {
  if (bytes > limit) return nullptr;  // so that nothing below overflows
  const std::size_t extra = alignment > sizeof(Header) ? alignment : 0;
  const std::size_t whole = std::bit_ceil(bytes + sizeof(Header) + extra + kLeast / 2);
  const auto size_class = static_cast<std::size_t>(std::countr_zero(whole));
  std::uint64_t base;
  if (FreeBlock* const block = free_blocks[size_class]) {
    free_blocks[size_class] = block->next;
    base = reinterpret_cast<std::uint64_t>(block);
  } else {
    if (whole > limit - next) return nullptr;
    base = next;
    next += whole;
  }
  std::uint64_t at = base + sizeof(Header);
  if (extra != 0) at = (at + alignment - 1) & ~(alignment - 1);
  reinterpret_cast<Header*>(at)[-1] = {base, size_class};
  return reinterpret_cast<void*>(at);
}

void give_back(void* at) {
  if (at == nullptr) return;
  const Header header = static_cast<Header*>(at)[-1];
  auto* const block = reinterpret_cast<FreeBlock*>(header.base);
  block->next = free_blocks[header.size_class];
  free_blocks[header.size_class] = block;
}

void* take_or_stop(std::size_t bytes, std::size_t alignment = alignof(std::max_align_t)) {
  void* const at = take(bytes, alignment);
  if (at == nullptr) stop("no memory is left");
  return at;
}

}  // namespace

void open_heap(std::uint64_t begin, std::uint64_t end) {
  next = (begin + 15) & ~std::uint64_t{15};
  limit = end;
}

}  // namespace twinwalk::vmx

using twinwalk::vmx::give_back;
using twinwalk::vmx::take;
using twinwalk::vmx::take_or_stop;

extern "C" {
void* malloc(std::size_t bytes) { return take(bytes, alignof(std::max_align_t)); }
void* aligned_alloc(std::size_t alignment, std::size_t bytes) { return take(bytes, alignment); }
void free(void* at) { give_back(at); }
}

void* operator new(std::size_t bytes) { return take_or_stop(bytes); }
void* operator new[](std::size_t bytes) { return take_or_stop(bytes); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return take_or_stop(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* at) noexcept { give_back(at); }
void operator delete[](void* at) noexcept { give_back(at); }
void operator delete(void* at, std::size_t) noexcept { give_back(at); }
void operator delete[](void* at, std::size_t) noexcept { give_back(at); }
void operator delete(void* at, std::align_val_t) noexcept { give_back(at); }
void operator delete(void* at, std::size_t, std::align_val_t) noexcept { give_back(at); }
