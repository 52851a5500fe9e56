#include "kvm_runner/backing.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "harness/trace/content.h"

namespace twinwalk::kvm {

Backing::~Backing() {
  if (memory_ != nullptr) munmap(memory_, kSpan);
  if (seeds_ >= 0) close(seeds_);
  if (copies_ >= 0) close(copies_);
}

bool Backing::open(std::string& why) {
  seeds_ = memfd_create("twinwalk-seeds", MFD_CLOEXEC);
  copies_ = memfd_create("twinwalk-copies", MFD_CLOEXEC);
  if (seeds_ < 0 || copies_ < 0 || ftruncate(seeds_, kSpan) != 0) {
    why = std::string("memfd: ") + std::strerror(errno);
    return false;
  }
  // Where a 2M page may lie, hva and position in hva space have to agree in their low bits.
  void* room =
      mmap(nullptr, kSpan + kChunk, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) {
    why = std::string("mmap: ") + std::strerror(errno);
    return false;
  }
  const auto skew = reinterpret_cast<std::uintptr_t>(room) % kChunk;
  const std::uint64_t before = skew == 0 ? 0 : kChunk - skew;
  memory_ = static_cast<unsigned char*>(room) + before;
  if (before != 0) munmap(room, before);
  munmap(memory_ + kSpan, kChunk - before);
  chunks_.assign(kSpan / kChunk, false);
  if (!map_seeds()) {
    why = std::string("mmap: ") + std::strerror(errno);
    return false;
  }
  reset();
  return true;
}

bool Backing::map_seeds() {
  const int flags = MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED;
  return mmap(memory_, kSpan, PROT_READ | PROT_WRITE, flags, seeds_, 0) != MAP_FAILED;
}

void Backing::reset(bool huge) {
  static_cast<void>(map_seeds());  // as it was done once
  huge_ = huge;
  has_begun_.assign(kSpan / kChunk, false);
  copied_ = 0;
  if (ftruncate(copies_, 0) != 0) copied_ = kSpan;
}

bool Backing::seed(std::uint64_t offset, std::uint64_t bytes) {
  std::vector<std::uint64_t> words;
  const std::uint64_t first = offset / kChunk;
  for (std::uint64_t chunk = first; chunk * kChunk < offset + bytes; ++chunk) {
    const bool huge = huge_ && chunk - first < kMostHuge;
    if (chunks_[chunk]) {
      if (!begin_chunk(chunk, huge)) return false;
      continue;
    }
    if (seeded_ + kChunk > kMostSeeded) return false;
    words.resize(kChunk / 8);
    for (std::uint64_t i = 0; i < words.size(); ++i) words[i] = seed_word(chunk * kChunk + 8 * i);
    const auto at = static_cast<off_t>(chunk * kChunk);
    if (pwrite(seeds_, words.data(), kChunk, at) != static_cast<ssize_t>(kChunk)) return false;
    chunks_[chunk] = true;
    seeded_ += kChunk;
    if (!begin_chunk(chunk, huge)) return false;
  }
  return true;
}

unsigned char* Backing::fresh_chunk(std::uint64_t chunk) {
  unsigned char* const at = memory_ + chunk * kChunk;
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
  if (mmap(at, kChunk, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED) return nullptr;
  madvise(at, kChunk, MADV_HUGEPAGE);
  return at;
}

bool Backing::begin_chunk(std::uint64_t chunk, bool huge) {
  if (has_begun_[chunk]) return true;
  has_begun_[chunk] = true;
  if (!huge) return true;
  unsigned char* const at = fresh_chunk(chunk);
  return at != nullptr && pread(seeds_, at, kChunk, static_cast<off_t>(chunk * kChunk)) ==
                              static_cast<ssize_t>(kChunk);
}

bool Backing::discard(std::uint64_t offset, std::uint64_t bytes) {
  for (std::uint64_t at = offset; at < offset + bytes; at = (at / kChunk + 1) * kChunk)
    has_begun_[at / kChunk] = true;
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
  return mmap(memory_ + offset, bytes, PROT_READ | PROT_WRITE, flags, -1, 0) != MAP_FAILED;
}

bool Backing::share(std::uint64_t offset, std::uint64_t bytes) {
  const auto at = static_cast<off_t>(copied_);
  if (copied_ + bytes > kSpan) return false;
  if (ftruncate(copies_, at + static_cast<off_t>(bytes)) != 0) return false;
  if (pwrite(copies_, memory_ + offset, bytes, at) != static_cast<ssize_t>(bytes)) return false;
  const int flags = MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED;
  if (mmap(memory_ + offset, bytes, PROT_READ | PROT_WRITE, flags, copies_, at) == MAP_FAILED)
    return false;
  copied_ += bytes;
  return true;
}

bool Backing::split(std::uint64_t offset) {
  // A protection of its own for a part of it, for a moment.
  unsigned char* const at = memory_ + offset / kChunk * kChunk;
  return mprotect(at, kChunk / 2, PROT_READ) == 0 &&
         mprotect(at, kChunk / 2, PROT_READ | PROT_WRITE) == 0;
}

bool Backing::collapse(std::uint64_t offset) {
  const std::uint64_t chunk = offset / kChunk;
  if (!seed(chunk * kChunk, kChunk)) return false;
  const unsigned char* const now = memory_ + chunk * kChunk;
  const std::vector<unsigned char> contents(now, now + kChunk);
  unsigned char* const at = fresh_chunk(chunk);
  if (at == nullptr) return false;
  std::memcpy(at, contents.data(), contents.size());
  return true;
}

}  // namespace twinwalk::kvm
