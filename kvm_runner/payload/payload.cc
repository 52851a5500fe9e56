#include "kvm_runner/payload/payload.h"

extern "C" {
extern const unsigned char twinwalk_payload_begin[], twinwalk_payload_user[],
    twinwalk_payload_end[];
// Formatting this list never comes to rest.
// clang-format off
#define TWINWALK_STUBS(X)                                                                     \
  X(load8)                                                                                    \
  X(load4)                                                                                    \
  X(load2)                                                                                    \
  X(load1)                                                                                    \
  X(store8)                                                                                   \
  X(store4) X(store2) X(store1) X(rmw8) X(rmw4) X(rmw2) X(rmw1) X(fetch) X(invlpg) X(invpcid) \
      X(write_cr0) X(write_cr3) X(write_cr4) X(write_efer) X(write_pkru) X(stac) X(clac)      \
          X(flush_all)
// clang-format on
#define TWINWALK_DECLARE(name) extern const unsigned char twinwalk_stub_##name[];
TWINWALK_STUBS(TWINWALK_DECLARE)
}

namespace twinwalk::kvm {
namespace {

#define TWINWALK_ADDRESS(name) twinwalk_stub_##name,
const unsigned char* const kStubs[] = {
    TWINWALK_STUBS(TWINWALK_ADDRESS)};  // in the order of enum Stub
static_assert(sizeof(kStubs) / sizeof(kStubs[0]) == static_cast<unsigned>(Stub::kCount));

}  // namespace

std::span<const unsigned char> payload_bytes(std::uint8_t cpl) {
  if (cpl == 0) return {twinwalk_payload_begin, twinwalk_payload_user};
  return {twinwalk_payload_user, twinwalk_payload_end};
}

std::uint64_t offset_of(Stub stub) {
  return static_cast<std::uint64_t>(kStubs[static_cast<unsigned>(stub)] - twinwalk_payload_begin);
}

Stub sized(Stub first, std::uint64_t size) {
  const unsigned step = size == 8 ? 0 : size == 4 ? 1 : size == 2 ? 2 : 3;
  return static_cast<Stub>(static_cast<unsigned>(first) + step);
}

}  // namespace twinwalk::kvm
