#ifndef TWINWALK_ORACLE_UNICORN_GUEST_IMAGE_H_
#define TWINWALK_ORACLE_UNICORN_GUEST_IMAGE_H_

// The guest's physical memory as Unicorn sees it: memslot 0 of a machine. A page is
// filled with its seed words when it is first looked at, and refilled after a trace
// only if that trace changed it.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace twinwalk::oracle::unicorn {

inline constexpr std::uint64_t kPageBytes = 4096;

class GuestImage {
 public:
  // Reserves address space for the largest machine; nothing is resident yet. Throws
  // std::system_error.
  GuestImage();
  ~GuestImage();
  GuestImage(const GuestImage&) = delete;
  GuestImage& operator=(const GuestImage&) = delete;

  // Back to the seed, `bytes` large (page-aligned, at most kMaxBytes). Costs in proportion to the
  // pages changed.
  void reset(std::uint64_t bytes);
  // As reset, but nothing of what was there is trusted: all pages are given back to the system.
  void forget_all(std::uint64_t bytes);

  std::uint64_t bytes() const { return bytes_; }
  bool contains(std::uint64_t gpa, std::uint64_t size) const {
    return gpa < bytes_ && size <= bytes_ - gpa;
  }
  std::uint8_t* host() { return base_; }

  // Precondition: contains(gpa, 8) and gpa is 8-aligned.
  std::uint64_t word(std::uint64_t gpa) {
    ensure(gpa);
    std::uint64_t word;
    std::memcpy(&word, base_ + gpa, sizeof word);
    return word;
  }
  // Undoes what an access did: the page is then as it was, so reset need not know of it.
  void restore(std::uint64_t gpa, std::uint64_t word) {
    std::memcpy(base_ + gpa, &word, sizeof word);
  }
  // Precondition: contains(gpa, size), size 1..8. The bytes at gpa, zero-extended; may cross words
  // and pages.
  std::uint64_t bytes_at(std::uint64_t gpa, unsigned size);
  void write(std::uint64_t gpa, unsigned size, std::uint64_t value);
  // Makes the page's content real before the engine is let loose on it. Precondition: contains(gpa,
  // 1).
  void ensure(std::uint64_t gpa) {
    const std::uint64_t page = gpa / kPageBytes;
    if (state_[page] == kAbsent) seed(page);
  }

  static constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 30;

 private:
  enum PageState : std::uint8_t { kAbsent, kSeeded, kChanged };
  void seed(std::uint64_t page);

  std::uint8_t* base_ = nullptr;
  std::uint64_t bytes_ = 0;
  std::vector<std::uint8_t> state_;     // PageState by page
  std::vector<std::uint32_t> changed_;  // pages in state kChanged
};

}  // namespace twinwalk::oracle::unicorn

#endif  // TWINWALK_ORACLE_UNICORN_GUEST_IMAGE_H_
