#ifndef TWINWALK_HARNESS_OBJECT_POOL_H_
#define TWINWALK_HARNESS_OBJECT_POOL_H_

// Storage for the core's descriptors: 16-aligned, holding anything (the same junk each time where
// AddressSanitizer is there), poisoned and quarantined once freed.
// Never allocates from a heap; reset() costs nothing.

#include <cstdint>
#include <vector>

namespace twinwalk {

class ObjectPool {
 public:
  ObjectPool();
  ~ObjectPool();
  ObjectPool(const ObjectPool&) = delete;
  ObjectPool& operator=(const ObjectPool&) = delete;

  // Everything that was handed out is gone.
  void reset();

  // `bytes` bytes; null if the pool is exhausted.
  void* allocate(std::uint64_t bytes);
  // False: `object` of that size is not live (freed twice, wrong size); nothing is done.
  bool release(void* object, std::uint64_t bytes);
  std::uint64_t live() const { return live_; }

 private:
  static constexpr unsigned kClasses = 27;  // 16 << class bytes
  static constexpr std::uint64_t kQuarantine =
      64;         // objects of a class that wait before the oldest is used again
  struct Header;  // stands before each object
  struct Class {
    Header* first = nullptr;  // freed objects, oldest first
    Header* last = nullptr;
    std::uint64_t count = 0;
  };
  static unsigned class_of(std::uint64_t bytes);

  std::uint8_t* arena_ = nullptr;
  std::uint64_t next_ = 0, high_ = 0, live_ = 0;
  Class classes_[kClasses];
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_OBJECT_POOL_H_
