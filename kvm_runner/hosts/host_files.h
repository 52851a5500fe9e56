#ifndef TWINWALK_KVM_RUNNER_HOSTS_HOST_FILES_H_
#define TWINWALK_KVM_RUNNER_HOSTS_HOST_FILES_H_

// Where what the emulated hosts boot from lies: the launcher puts it there (prepare.sh).

#include <string>

namespace twinwalk::hosts {

// The folder `hosts` of the build folder: TWINWALK_BUILD_DIR, else two above the program's own.
std::string host_folder();

// A file of it; empty, and why, if it is not there.
std::string host_file(const std::string& name, std::string& why);

// A file that is built beside this program; empty, and why, if it is not there.
std::string program_file(const std::string& name, std::string& why);

// What tells one state of a file from another without reading it: name, size, time of change.
std::string identity_of(const std::string& path);

// What a shell command prints on standard output, at most some kilobytes; empty if it cannot be
// run.
std::string output_of(const std::string& command);

}  // namespace twinwalk::hosts

#endif  // TWINWALK_KVM_RUNNER_HOSTS_HOST_FILES_H_
