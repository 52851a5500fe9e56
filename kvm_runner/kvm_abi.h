#ifndef TWINWALK_KVM_RUNNER_KVM_ABI_H_
#define TWINWALK_KVM_RUNNER_KVM_ABI_H_

/* The ioctls whose argument ends in a flexible array. Debian 12's <linux/kvm.h> gives those
 * structures another size in C++ than in C, hence another ioctl number, which the kernel answers
 * with EINVAL: they are issued from C. */

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Fills up to `capacity` entries with what the host can offer a guest; the number filled, or
 * -errno. */
int twinwalk_kvm_supported_cpuid(int kvm_fd, struct kvm_cpuid_entry2* entries, unsigned capacity);

/* Gives the vCPU its CPUID; before its first KVM_RUN. 0 or -errno. */
int twinwalk_kvm_set_cpuid(int vcpu_fd, const struct kvm_cpuid_entry2* entries, unsigned count);

/* Writes one MSR of the vCPU. 0 or -errno; -EINVAL if KVM does not take the value. */
int twinwalk_kvm_set_msr(int vcpu_fd, uint32_t index, uint64_t value);
/* The vCPU's state that XSAVE knows, PKRU among it. 0 or -errno. */
#define TWINWALK_KVM_XSAVE_WORDS 1024
int twinwalk_kvm_get_xsave(int vcpu_fd, uint32_t* state);
int twinwalk_kvm_set_xsave(int vcpu_fd, const uint32_t* state);

#ifdef __cplusplus
}
#endif

#endif /* TWINWALK_KVM_RUNNER_KVM_ABI_H_ */
