#ifndef TWINWALK_KVM_RUNNER_HOSTS_BOCHS_MACHINE_H_
#define TWINWALK_KVM_RUNNER_HOSTS_BOCHS_MACHINE_H_

// A machine in Bochs: an emulator of whole processors with VMX and EPT, by model.

#include <string>

#include "kvm_runner/hosts/emulator.h"
#include "kvm_runner/hosts/live_link.h"

namespace twinwalk::hosts {

struct BochsPlan {
  std::string iso;    // boots from it
  std::string model;  // of the processor, as `bochs -help cpu` lists them
  unsigned megabytes = 512;
  bool port = false;  // COM2 is a socket of this program's
};

class BochsMachine final : public LiveHost {
 public:
  ~BochsMachine() override;
  // False, and why, if Bochs is missing, or does not come so far as to open its ports.
  bool start(const BochsPlan& plan, std::string& why);

  int port() const override { return port_; }
  bool boots() const override { return true; }
  std::string last_words() const override;
  // What was written to port 0xe9, mixed with what Bochs says itself.
  const std::string& output() const { return output_; }
  Emulator& emulator() { return emulator_; }

 private:
  std::string configuration(const BochsPlan& plan, unsigned tcp_port) const;

  ScratchFolder scratch_;
  std::string console_ = scratch_.file("console"), output_ = scratch_.file("output");
  Emulator emulator_;
  int port_ = -1;
};

// "Bochs 2.7"; empty if it cannot be run.
std::string bochs_version();

}  // namespace twinwalk::hosts

#endif  // TWINWALK_KVM_RUNNER_HOSTS_BOCHS_MACHINE_H_
