#ifndef TWINWALK_HARNESS_CLI_DOCTOR_H_
#define TWINWALK_HARNESS_CLI_DOCTOR_H_

namespace twinwalk::cli {

// `doctor`: prints what this machine can run, and what to do about the rest. Always exit 0.
int doctor();

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_DOCTOR_H_
