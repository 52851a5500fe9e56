#include "kvm_runner/vmx_image/boot/descriptors.h"

#include <cstddef>

#include "kvm_runner/vmx_image/runtime/stop.h"

namespace twinwalk::vmx {
namespace {

constexpr unsigned kVectors = 32;
constexpr std::size_t kStackBytes = 16384;

// SDM 3A §"64-Bit TSS".
struct [[gnu::packed]] Tss {
  std::uint32_t reserved0 = 0;
  std::uint64_t rsp[3] = {};
  std::uint64_t reserved1 = 0;
  std::uint64_t ist[7] = {};
  std::uint64_t reserved2 = 0;
  std::uint16_t reserved3 = 0;
  std::uint16_t io_map = sizeof(Tss);  // none
};
static_assert(sizeof(Tss) == 104);

struct [[gnu::packed]] TableRegister {
  std::uint16_t limit;
  std::uint64_t base;
};

alignas(16) std::uint64_t gdt[5] = {0, 0x00af'9b00'0000'ffff, 0x00cf'9300'0000'ffff};
alignas(16) std::uint64_t idt[kVectors][2];
alignas(16) Tss tss;
alignas(16) unsigned char exception_stack[kStackBytes];

extern "C" const unsigned char twinwalk_exception_entries[];  // 16 bytes each

std::uint64_t address_of(const void* at) { return reinterpret_cast<std::uint64_t>(at); }

// What the entries of exceptions.S have pushed, and below it the processor.
struct ExceptionFrame {
  std::uint64_t vector, error_code, rip, cs, rflags, rsp, ss;
};

extern "C" void twinwalk_exception(const ExceptionFrame& frame) {
  std::uint64_t cr2 = 0;
  asm volatile("mov %%cr2, %0" : "=r"(cr2));
  stop_on_exception(frame.vector, frame.error_code, frame.rip, cr2);
}

}  // namespace

// SDM 3A §"Segment Descriptors", §"TSS Descriptor in 64-bit mode", §"64-Bit Mode IDT".
DescriptorTables load_descriptor_tables() {
  const std::uint64_t at = address_of(&tss);
  gdt[kTssSelector / 8] = (sizeof tss - 1) | (at & 0xff'ffff) << 16 | std::uint64_t{0x89} << 40 |
                          (at >> 24 & 0xff) << 56;
  gdt[kTssSelector / 8 + 1] = at >> 32;
  tss.ist[0] = address_of(exception_stack + kStackBytes);
  for (unsigned v = 0; v < kVectors; ++v) {
    const std::uint64_t entry = address_of(twinwalk_exception_entries + 16 * v);
    idt[v][0] = (entry & 0xffff) | std::uint64_t{kCodeSelector} << 16 | std::uint64_t{1} << 32 |
                std::uint64_t{0x8e} << 40 | (entry >> 16 & 0xffff) << 48;
    idt[v][1] = entry >> 32;
  }
  const TableRegister gdtr{sizeof gdt - 1, address_of(gdt)};
  const TableRegister idtr{sizeof idt - 1, address_of(idt)};
  asm volatile("lgdt %0; lidt %1; ltr %2" : : "m"(gdtr), "m"(idtr), "r"(kTssSelector) : "memory");
  return {gdtr.base, idtr.base, at};
}

}  // namespace twinwalk::vmx
