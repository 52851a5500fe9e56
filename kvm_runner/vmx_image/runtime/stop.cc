#include "kvm_runner/vmx_image/runtime/stop.h"

#include "harness/trace/serial_log.h"
#include "kvm_runner/vmx_image/runtime/console.h"
#include "kvm_runner/vmx_image/runtime/hex.h"
#include "kvm_runner/vmx_image/runtime/ports.h"

namespace twinwalk::vmx {
namespace {

std::uint64_t current_trace = 0;
bool stopping = false;

// Below a hypervisor, or in an emulator that answers at its port: nobody else minds stray stores to
// ports.
bool is_virtual() {
  std::uint32_t eax = 1, ebx = 0, ecx = 0, edx = 0;
  asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  constexpr std::uint32_t kHypervisor = 1u << 31;
  return is_emulated() || (ecx & kHypervisor) != 0;
}

}  // namespace

void set_current_trace(std::uint64_t number) { current_trace = number; }

void switch_off() {
  if (is_virtual()) {
    for (const char c : std::string_view("Shutdown")) out8(0x8900, static_cast<std::uint8_t>(c));
    out8(0xf4, 0);          // QEMU: isa-debug-exit, where the command line has it
    out16(0x604, 0x2000);   // QEMU q35 and later i440fx: ACPI's PM1a control, S5
    out16(0xb004, 0x2000);  // earlier ones
  }
  for (;;) asm volatile("cli; hlt");
}

void stop(std::string_view why) {
  if (stopping) switch_off();
  stopping = true;
  say(to_log_text(LogWord::kNote, current_trace, "the image stops: " + std::string(why)));
  switch_off();
}

void stop_on_exception(std::uint64_t vector, std::uint64_t error_code, std::uint64_t rip,
                       std::uint64_t cr2) {
  stop("exception " + hex(vector) + " error code " + hex(error_code) + " rip " + hex(rip) +
       " cr2 " + hex(cr2));
}

}  // namespace twinwalk::vmx
