#ifndef TWINWALK_KVM_RUNNER_VMX_IMAGE_VMX_INSTRUCTIONS_H_
#define TWINWALK_KVM_RUNNER_VMX_IMAGE_VMX_INSTRUCTIONS_H_

// Instructions that C++ has no words for. SDM 3C "VMX Instruction Reference": those of VMX say by
// CF and ZF whether they failed.

#include <cstdint>

#include "kvm_runner/vmx_image/vmx/fields.h"

namespace twinwalk::vmx {

inline std::uint64_t read_msr(std::uint32_t msr) {
  std::uint32_t low, high;
  asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
  return low | std::uint64_t{high} << 32;
}
inline void write_msr(std::uint32_t msr, std::uint64_t value) {
  asm volatile("wrmsr"
               :
               : "c"(msr), "a"(static_cast<std::uint32_t>(value)),
                 "d"(static_cast<std::uint32_t>(value >> 32)));
}

struct CpuidResult {
  std::uint32_t eax, ebx, ecx, edx;
};
inline CpuidResult cpuid(std::uint32_t leaf, std::uint32_t subleaf = 0) {
  CpuidResult r;
  asm volatile("cpuid"
               : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
               : "a"(leaf), "c"(subleaf));
  return r;
}

inline std::uint64_t read_cr0() {
  std::uint64_t value;
  asm volatile("mov %%cr0, %0" : "=r"(value));
  return value;
}
inline std::uint64_t read_cr3() {
  std::uint64_t value;
  asm volatile("mov %%cr3, %0" : "=r"(value));
  return value;
}
inline std::uint64_t read_cr4() {
  std::uint64_t value;
  asm volatile("mov %%cr4, %0" : "=r"(value));
  return value;
}
inline void write_cr0(std::uint64_t value) { asm volatile("mov %0, %%cr0" : : "r"(value)); }
inline void write_cr4(std::uint64_t value) { asm volatile("mov %0, %%cr4" : : "r"(value)); }
// For a guest: with CR4.PKE clear it means nothing here. Precondition: the processor has it.
inline void write_pkru(std::uint32_t value) {
  constexpr std::uint64_t kPke = 1 << 22;
  const std::uint64_t cr4 = read_cr4();
  asm volatile("mov %3, %%cr4; wrpkru; mov %4, %%cr4"
               :
               : "a"(value), "c"(0), "d"(0), "r"(cr4 | kPke), "r"(cr4)
               : "memory");
}

inline bool vmxon(std::uint64_t region) {
  bool failed;
  asm volatile("vmxon %1" : "=@ccbe"(failed) : "m"(region) : "memory");
  return !failed;
}
inline bool vmclear(std::uint64_t region) {
  bool failed;
  asm volatile("vmclear %1" : "=@ccbe"(failed) : "m"(region) : "memory");
  return !failed;
}
inline bool vmptrld(std::uint64_t region) {
  bool failed;
  asm volatile("vmptrld %1" : "=@ccbe"(failed) : "m"(region) : "memory");
  return !failed;
}
inline bool vmwrite(VmcsField field, std::uint64_t value) {
  bool failed;
  asm volatile("vmwrite %2, %1"
               : "=@ccbe"(failed)
               : "r"(static_cast<std::uint64_t>(field)), "r"(value));
  return !failed;
}
inline std::uint64_t vmread(VmcsField field) {
  std::uint64_t value;
  asm volatile("vmread %1, %0" : "=r"(value) : "r"(static_cast<std::uint64_t>(field)) : "cc");
  return value;
}

enum class InveptType : std::uint64_t { kSingleContext = 1, kAllContexts = 2 };
inline bool invept(InveptType type, std::uint64_t eptp) {
  const std::uint64_t descriptor[2] = {eptp, 0};
  bool failed;
  asm volatile("invept %1, %2"
               : "=@ccbe"(failed)
               : "m"(descriptor), "r"(static_cast<std::uint64_t>(type))
               : "memory");
  return !failed;
}
enum class InvvpidType : std::uint64_t {
  kAddress = 0,
  kSingleContext = 1,
  kAllContexts = 2,
  kSingleContextButGlobal = 3,
};
inline bool invvpid(InvvpidType type, std::uint16_t vpid, std::uint64_t linear) {
  const std::uint64_t descriptor[2] = {vpid, linear};
  bool failed;
  asm volatile("invvpid %1, %2"
               : "=@ccbe"(failed)
               : "m"(descriptor), "r"(static_cast<std::uint64_t>(type))
               : "memory");
  return !failed;
}

}  // namespace twinwalk::vmx

#endif  // TWINWALK_KVM_RUNNER_VMX_IMAGE_VMX_INSTRUCTIONS_H_
