#ifndef TWINWALK_KVM_RUNNER_VMX_IMAGE_RUNTIME_STOP_H_
#define TWINWALK_KVM_RUNNER_VMX_IMAGE_RUNTIME_STOP_H_

// The ends of the image.

#include <cstdint>
#include <string_view>

namespace twinwalk::vmx {

// The trace at hand: what a line about an unexpected end is about.
void set_current_trace(std::uint64_t number);

// Switches an emulated machine off; a real one stands still.
[[noreturn]] void switch_off();
// Something is broken: says so in a `note` line, and stops.
[[noreturn]] void stop(std::string_view why);
[[noreturn]] void stop_on_exception(std::uint64_t vector, std::uint64_t error_code,
                                    std::uint64_t rip, std::uint64_t cr2);

}  // namespace twinwalk::vmx

#endif  // TWINWALK_KVM_RUNNER_VMX_IMAGE_RUNTIME_STOP_H_
