#include "oracle/unicorn/guest_image.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "harness/trace/content.h"

namespace twinwalk::oracle::unicorn {

GuestImage::GuestImage() : state_(kMaxBytes / kPageBytes, kAbsent) {
  void* area = mmap(nullptr, kMaxBytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (area == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "guest memory");
  base_ = static_cast<std::uint8_t*>(area);
}

GuestImage::~GuestImage() { munmap(base_, kMaxBytes); }

void GuestImage::seed(std::uint64_t page) {
  const std::uint64_t at = page * kPageBytes;
  for (std::uint64_t offset = 0; offset < kPageBytes; offset += 8) {
    const std::uint64_t word = seed_word(at + offset);
    std::memcpy(base_ + at + offset, &word, sizeof word);
  }
  state_[page] = kSeeded;
}

void GuestImage::reset(std::uint64_t bytes) {
  for (const std::uint32_t page : changed_) seed(page);
  changed_.clear();
  bytes_ = bytes;
}

void GuestImage::forget_all(std::uint64_t bytes) {
  madvise(base_, kMaxBytes, MADV_DONTNEED);
  std::fill(state_.begin(), state_.end(), std::uint8_t{kAbsent});
  changed_.clear();
  bytes_ = bytes;
}

std::uint64_t GuestImage::bytes_at(std::uint64_t gpa, unsigned size) {
  ensure(gpa);
  ensure(gpa + size - 1);
  std::uint64_t value = 0;
  std::memcpy(&value, base_ + gpa, size);
  return value;
}

void GuestImage::write(std::uint64_t gpa, unsigned size, std::uint64_t value) {
  for (const std::uint64_t end : {gpa, gpa + size - 1}) {
    ensure(end);
    const auto page = static_cast<std::uint32_t>(end / kPageBytes);
    if (state_[page] == kChanged) continue;
    state_[page] = kChanged;
    changed_.push_back(page);
  }
  std::memcpy(base_ + gpa, &value, size);
}

}  // namespace twinwalk::oracle::unicorn
