#ifndef TWINWALK_KVM_RUNNER_HOSTS_VMX_ISO_H_
#define TWINWALK_KVM_RUNNER_HOSTS_VMX_ISO_H_

// The bootable image of subject `core-vmx` (../vmx_image) with traces in it.

#include <span>
#include <string>

#include "harness/trace/program.h"

namespace twinwalk::hosts {

// The image's boot module: a line of harness/trace/serial_log.h a program, numbered from 0.
std::string module_of(std::span<const Program> programs);

// An ISO that GRUB boots from BIOS and, where its files for that are installed, from UEFI. `elf`:
// the image; `out`: a new file in a folder of the caller's own. False, and why, if it cannot be
// made.
bool write_vmx_iso(const std::string& elf, const std::string& module, const std::string& out,
                   std::string& why);

// Where the image lies that was built with this program; empty, and why, if it was not.
std::string vmx_image_file(std::string& why);

}  // namespace twinwalk::hosts

#endif  // TWINWALK_KVM_RUNNER_HOSTS_VMX_ISO_H_
