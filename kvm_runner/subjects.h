#ifndef TWINWALK_KVM_RUNNER_SUBJECTS_H_
#define TWINWALK_KVM_RUNNER_SUBJECTS_H_

// The subjects that need /dev/kvm. Each is null, and `why` says it to a person, where there is
// none.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "harness/subject.h"

namespace twinwalk {

// How the guest's steps are driven on `kvm`: one an exit, or batches that the guest interprets.
// Outcomes are the same, as far as the processor leaves no choice: an exit may drop translations
// that it may as well keep.
enum class Driving : std::uint8_t { kFaster, kAlone, kBatched };

// Who looks on while programs run in VMs.
class VmWatcher {
 public:
  virtual ~VmWatcher() = default;
  // Before the first step of a program: the descriptors of the VM and its vCPUs.
  virtual void program_begins(int vm, std::span<const int> vcpus) = 0;
  // After the last one, with the VM still there.
  virtual void program_ended() = 0;
};

// `kvm`: the MMU of the host kernel's KVM. A program runs in a VM of its own. kFaster: it measures
// which way is, in some milliseconds.
class VmSubject : public Subject {
 public:
  // Whether programs may have VMs of former ones, emptied: much faster, and the same to a KVM
  // that forgets what it derived from memslots when they are deleted. Off at first.
  virtual void keep_vms(bool keep) = 0;
  // It must outlive the programs; null: nobody.
  virtual void set_watcher(VmWatcher* watcher) = 0;
};
std::unique_ptr<VmSubject> make_kvm_subject(std::string& why, Driving driving = Driving::kFaster);

// What a step of `kvm` takes here, and which way is taken for it.
struct KvmPace {
  double alone_us = 0, batched_us = 0;
  // What saves little is not worth that outcomes could depend on the day.
  Driving faster() const {
    return batched_us < 0.8 * alone_us ? Driving::kBatched : Driving::kAlone;
  }
};
// None without /dev/kvm.
std::optional<KvmPace> measure_kvm_pace();

// `core-kvm`: mmu_core's shadow tables, walked by the processor of a VM whose guest-physical space
// is the core's host-physical space.
std::unique_ptr<Subject> make_core_kvm_subject(std::string& why);

}  // namespace twinwalk

#endif  // TWINWALK_KVM_RUNNER_SUBJECTS_H_
