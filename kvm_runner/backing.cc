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
  void* memory =
      mmap(nullptr, kSpan, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, seeds_, 0);
  if (memory == MAP_FAILED) {
    why = std::string("mmap: ") + std::strerror(errno);
    return false;
  }
  memory_ = static_cast<unsigned char*>(memory);
  chunks_.assign(kSpan / kChunk, false);
  return true;
}

void Backing::reset() {
  mmap(memory_, kSpan, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, seeds_, 0);
  copied_ = 0;
  if (ftruncate(copies_, 0) != 0) copied_ = kSpan;
}

bool Backing::seed(std::uint64_t offset, std::uint64_t bytes) {
  std::vector<std::uint64_t> words;
  for (std::uint64_t chunk = offset / kChunk; chunk * kChunk < offset + bytes; ++chunk) {
    if (chunks_[chunk]) continue;
    if (seeded_ + kChunk > kMostSeeded) return false;
    words.resize(kChunk / 8);
    for (std::uint64_t i = 0; i < words.size(); ++i) words[i] = seed_word(chunk * kChunk + 8 * i);
    const auto at = static_cast<off_t>(chunk * kChunk);
    if (pwrite(seeds_, words.data(), kChunk, at) != static_cast<ssize_t>(kChunk)) return false;
    chunks_[chunk] = true;
    seeded_ += kChunk;
  }
  return true;
}

bool Backing::discard(std::uint64_t offset, std::uint64_t bytes) {
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

}  // namespace twinwalk::kvm
