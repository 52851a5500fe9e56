#ifndef TWINWALK_KVM_RUNNER_HOSTS_HOSTS_H_
#define TWINWALK_KVM_RUNNER_HOSTS_HOSTS_H_

// The hosts besides this machine, by the words of `--host`.

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "kvm_runner/remote/remote_subject.h"
#include "kvm_runner/subjects.h"

namespace twinwalk::hosts {

// One way to run a subject on a host: a column of the conformance matrix.
struct HostVariant {
  std::string_view host;     // "qemu-svm"
  std::string_view subject;  // "kvm"
  std::string_view name;     // "npt=0": what tells it from the others of that host
  std::string_view means;    // parameters of KVM's module, model of the processor, or empty
  std::optional<Dimension> dimension;  // the only one in which the subject works there
  bool by_name_only = false;           // no part of what `--host` means without a variant
};
std::span<const HostVariant> host_variants();

// Whether a whole suite there takes many minutes; `host` may name a variant.
bool is_slow(std::string_view host, std::string_view subject);

// Whether its host can say what programs reach in a hypervisor.
bool can_watch(const HostVariant& variant);

// Starts it. Null, and why, if it cannot be had here. `watched`: with each answer comes what the
// program was the first to reach (remote/seen_map.h). `driving`: subject `kvm` is driven so.
std::unique_ptr<remote::RemoteSubject> start_variant(const HostVariant& variant, std::string& why,
                                                     bool watched = false,
                                                     Driving driving = Driving::kFaster);

}  // namespace twinwalk::hosts

#endif  // TWINWALK_KVM_RUNNER_HOSTS_HOSTS_H_
