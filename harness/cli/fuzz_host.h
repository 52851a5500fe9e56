#ifndef TWINWALK_HARNESS_CLI_FUZZ_HOST_H_
#define TWINWALK_HARNESS_CLI_FUZZ_HOST_H_

// `fuzz --subject kvm --host HOST`: fuzzes a real KVM in emulated hosts, one a worker.

#include <string>

#include "harness/cli/subjects.h"
#include "harness/fuzzing/fuzz.h"

namespace twinwalk::cli {

// The configuration of a run that names none.
inline constexpr const char* kHostConfig = "shadow-any";

// As run_fuzz(). Throws Failure for words that name no such subject, host or configuration.
int fuzz_host(const fuzz::FuzzOptions& options, const SubjectWords& words);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_FUZZ_HOST_H_
