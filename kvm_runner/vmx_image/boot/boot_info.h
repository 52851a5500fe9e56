#ifndef TWINWALK_KVM_RUNNER_VMX_IMAGE_BOOT_BOOT_INFO_H_
#define TWINWALK_KVM_RUNNER_VMX_IMAGE_BOOT_BOOT_INFO_H_

// What the boot loader says: modules and memory. Multiboot2 Specification 2.0, "Boot information
// format".

#include <cstddef>
#include <cstdint>

namespace twinwalk::vmx {

inline constexpr std::uint32_t kBootMagic = 0x36d7'6289;  // in EAX at the start

// Physical addresses, which are also those of this program.
struct Span {
  std::uint64_t begin = 0, end = 0;
  std::uint64_t bytes() const { return end - begin; }
};

class BootInfo {
 public:
  // Precondition: `info` is what the loader gave.
  explicit BootInfo(const unsigned char* info);

  // The first module; empty if there is none.
  Span module() const { return modules_ == 0 ? Span{} : module_[0]; }
  // The largest piece of memory below `limit` that nothing uses, cut to whole pages; `own`: this
  // program.
  Span largest_free(Span own, std::uint64_t limit) const;

 private:
  static constexpr std::size_t kMost = 64;
  void add_memory(const unsigned char* tag, std::uint32_t bytes);

  Span info_;
  Span module_[kMost];
  std::size_t modules_ = 0;
  Span memory_[kMost];
  std::size_t memories_ = 0;
};

}  // namespace twinwalk::vmx

#endif  // TWINWALK_KVM_RUNNER_VMX_IMAGE_BOOT_BOOT_INFO_H_
