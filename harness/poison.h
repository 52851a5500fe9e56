#ifndef TWINWALK_HARNESS_POISON_H_
#define TWINWALK_HARNESS_POISON_H_

// Manual poisoning, where AddressSanitizer is there; nothing otherwise.

#include <cstddef>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TWINWALK_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define TWINWALK_ASAN 1
#endif

#ifdef TWINWALK_ASAN
#include <sanitizer/asan_interface.h>

#include <cstring>
#endif

namespace twinwalk {

inline void poison(const void* at, std::size_t bytes) {
#ifdef TWINWALK_ASAN
  __asan_poison_memory_region(at, bytes);
#else
  (void)at, (void)bytes;
#endif
}
inline void unpoison(const void* at, std::size_t bytes) {
#ifdef TWINWALK_ASAN
  __asan_unpoison_memory_region(at, bytes);
#else
  (void)at, (void)bytes;
#endif
}

// Fills memory that its owner has to initialise.
inline void scribble(void* at, std::size_t bytes) {
#ifdef TWINWALK_ASAN
  std::memset(at, 0xa5, bytes);
#else
  (void)at, (void)bytes;
#endif
}

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_POISON_H_
