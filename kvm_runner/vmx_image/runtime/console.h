#ifndef TWINWALK_KVM_RUNNER_VMX_IMAGE_RUNTIME_CONSOLE_H_
#define TWINWALK_KVM_RUNNER_VMX_IMAGE_RUNTIME_CONSOLE_H_

// Where lines go: port 0xe9 if an emulator answers there, else the first serial port, 115200 8N1.

#include <string_view>

namespace twinwalk::vmx {

void open_console();
void say(std::string_view text);

// An emulator that has port 0xe9.
bool is_emulated();

}  // namespace twinwalk::vmx

#endif  // TWINWALK_KVM_RUNNER_VMX_IMAGE_RUNTIME_CONSOLE_H_
