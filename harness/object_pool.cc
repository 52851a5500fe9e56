#include "harness/object_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <new>

#include "harness/poison.h"

namespace twinwalk {
namespace {

constexpr std::uint64_t kArena = std::uint64_t{2} << 30;
constexpr std::uint64_t kTrimAbove = std::uint64_t{8} << 20;
constexpr std::uint32_t kLive = 0x4c49'5645, kFreed = 0x4652'4545;

}  // namespace

// Not poisoned with its object, so that a double free is told from a live object.
struct alignas(16) ObjectPool::Header {
  Header* next;
  std::uint32_t mark;
  std::uint32_t bytes;
};

ObjectPool::ObjectPool() {
  void* at = mmap(nullptr, kArena, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) throw std::bad_alloc();
  arena_ = static_cast<std::uint8_t*>(at);
}

ObjectPool::~ObjectPool() {
  unpoison(arena_, std::max(high_, next_));
  munmap(arena_, kArena);
}

void ObjectPool::reset() {
  high_ = std::max(high_, next_);
  unpoison(arena_, next_);
  if (high_ > kTrimAbove) {
    madvise(arena_, high_, MADV_DONTNEED);
    high_ = 0;
  }
  next_ = live_ = 0;
  std::fill(std::begin(classes_), std::end(classes_), Class{});
}

unsigned ObjectPool::class_of(std::uint64_t bytes) {
  return bytes <= 16 ? 0 : static_cast<unsigned>(std::bit_width(bytes - 1)) - 4;
}

void* ObjectPool::allocate(std::uint64_t bytes) {
  if (bytes == 0 || bytes > kArena / 2) return nullptr;
  const unsigned c = class_of(bytes);
  Class& cls = classes_[c];
  Header* header;
  if (cls.count > kQuarantine) {
    header = cls.first;
    cls.first = header->next;
    --cls.count;
  } else {
    const std::uint64_t need = sizeof(Header) + (std::uint64_t{16} << c);
    if (need > kArena - next_) return nullptr;
    header = reinterpret_cast<Header*>(arena_ + next_);
    next_ += need;
  }
  *header = {nullptr, kLive, static_cast<std::uint32_t>(bytes)};
  void* const object = header + 1;
  poison(object, std::uint64_t{16} << c);
  unpoison(object, bytes);
  scribble(object, bytes);
  ++live_;
  return object;
}

bool ObjectPool::release(void* object, std::uint64_t bytes) {
  auto* const at = static_cast<std::uint8_t*>(object);
  if (at < arena_ + sizeof(Header) || at >= arena_ + next_ || (at - arena_) % 16) return false;
  Header* const header = static_cast<Header*>(object) - 1;
  if (header->mark != kLive || header->bytes != bytes) return false;
  const unsigned c = class_of(bytes);
  header->mark = kFreed;
  header->next = nullptr;
  poison(object, std::uint64_t{16} << c);
  Class& cls = classes_[c];
  (cls.count ? cls.last->next : cls.first) = header;
  cls.last = header;
  ++cls.count;
  --live_;
  return true;
}

}  // namespace twinwalk
