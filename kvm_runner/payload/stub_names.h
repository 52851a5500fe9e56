#ifndef TWINWALK_KVM_RUNNER_PAYLOAD_STUB_NAMES_H_
#define TWINWALK_KVM_RUNNER_PAYLOAD_STUB_NAMES_H_

// X(name) for each stub, in the order of enum Stub.
// Formatting this list never comes to rest.
// clang-format off
#define TWINWALK_STUBS(X)                                                                     \
  X(load8) X(load4) X(load2) X(load1) X(store8) X(store4) X(store2) X(store1)                 \
  X(rmw8) X(rmw4) X(rmw2) X(rmw1) X(fetch) X(invlpg) X(invpcid)                               \
  X(write_cr0) X(write_cr3) X(write_cr4) X(write_efer) X(write_pkru) X(stac) X(clac)          \
  X(flush_all) X(read_cr0) X(read_cr3) X(read_cr4) X(read_efer) X(read_pkru)                 \
  X(nothing) X(vmmcall)
// Of 64-bit code alone, behind those.
#define TWINWALK_STUBS_64(X) X(vmrun) X(invlpga)
// clang-format on

#endif  // TWINWALK_KVM_RUNNER_PAYLOAD_STUB_NAMES_H_
