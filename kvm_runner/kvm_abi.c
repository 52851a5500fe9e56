#include "kvm_runner/kvm_abi.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

static struct kvm_cpuid2* allocate(unsigned count) {
  struct kvm_cpuid2* list = calloc(1, sizeof(*list) + count * sizeof(struct kvm_cpuid_entry2));
  if (list != NULL) list->nent = count;
  return list;
}

int twinwalk_kvm_supported_cpuid(int kvm_fd, struct kvm_cpuid_entry2* entries, unsigned capacity) {
  struct kvm_cpuid2* list = allocate(capacity);
  if (list == NULL) return -ENOMEM;
  int result;
  if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, list) != 0) {
    result = -errno;
  } else {
    result = (int)list->nent;
    memcpy(entries, list->entries, list->nent * sizeof(*entries));
  }
  free(list);
  return result;
}

int twinwalk_kvm_set_cpuid(int vcpu_fd, const struct kvm_cpuid_entry2* entries, unsigned count) {
  struct kvm_cpuid2* list = allocate(count);
  if (list == NULL) return -ENOMEM;
  memcpy(list->entries, entries, count * sizeof(*entries));
  const int result = ioctl(vcpu_fd, KVM_SET_CPUID2, list) != 0 ? -errno : 0;
  free(list);
  return result;
}

int twinwalk_kvm_set_msr(int vcpu_fd, uint32_t index, uint64_t value) {
  struct kvm_msrs* list = calloc(1, sizeof(*list) + sizeof(struct kvm_msr_entry));
  if (list == NULL) return -ENOMEM;
  list->nmsrs = 1;
  list->entries[0].index = index;
  list->entries[0].data = value;
  const int written = ioctl(vcpu_fd, KVM_SET_MSRS, list);
  const int result = written == 1 ? 0 : written < 0 ? -errno : -EINVAL;
  free(list);
  return result;
}

int twinwalk_kvm_get_xsave(int vcpu_fd, uint32_t* state) {
  struct kvm_xsave area;
  if (ioctl(vcpu_fd, KVM_GET_XSAVE, &area) != 0) return -errno;
  memcpy(state, area.region, sizeof(area.region));
  return 0;
}

int twinwalk_kvm_set_xsave(int vcpu_fd, const uint32_t* state) {
  struct kvm_xsave area;
  memcpy(area.region, state, sizeof(area.region));
  return ioctl(vcpu_fd, KVM_SET_XSAVE, &area) != 0 ? -errno : 0;
}
