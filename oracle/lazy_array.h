#ifndef TWINWALK_ORACLE_LAZY_ARRAY_H_
#define TWINWALK_ORACLE_LAZY_ARRAY_H_

// A large array of zeros whose pages the kernel backs when they are first stored
// to: what is not stored to costs addresses only.

#include <sys/mman.h>

#include <cstddef>
#include <new>
#include <type_traits>

namespace twinwalk::oracle {

template <class T>
class LazyArray {
  static_assert(std::is_trivial_v<T>);

 public:
  explicit LazyArray(std::size_t size) : bytes_(size * sizeof(T)) {
    void* at = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) throw std::bad_alloc();
    at_ = static_cast<T*>(at);
  }
  ~LazyArray() { munmap(at_, bytes_); }
  LazyArray(const LazyArray&) = delete;
  LazyArray& operator=(const LazyArray&) = delete;

  T& operator[](std::size_t i) { return at_[i]; }
  const T& operator[](std::size_t i) const { return at_[i]; }

  // All elements are zero again, and cost nothing.
  void give_back() { madvise(at_, bytes_, MADV_DONTNEED); }

 private:
  T* at_;
  std::size_t bytes_;
};

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_LAZY_ARRAY_H_
