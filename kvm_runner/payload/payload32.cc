#include "kvm_runner/payload/payload32.h"

#include "kvm_runner/payload/stub_names.h"

extern "C" {
extern const unsigned char twinwalk_payload32_begin[], twinwalk_payload32_user[],
    twinwalk_payload32_end[], twinwalk_stub32_to_user[];
#define TWINWALK_DECLARE(name) extern const unsigned char twinwalk_stub32_##name[];
TWINWALK_STUBS(TWINWALK_DECLARE)
}

namespace twinwalk::kvm {
namespace {

#define TWINWALK_ADDRESS(name) twinwalk_stub32_##name,
const unsigned char* const kStubs[] = {TWINWALK_STUBS(TWINWALK_ADDRESS)};
static_assert(sizeof(kStubs) / sizeof(kStubs[0]) == static_cast<unsigned>(Stub::kVmrun));

}  // namespace

std::span<const unsigned char> payload32_bytes(std::uint8_t cpl) {
  if (cpl == 0) return {twinwalk_payload32_begin, twinwalk_payload32_user};
  return {twinwalk_payload32_user, twinwalk_payload32_end};
}

std::uint64_t offset_of_32(Stub stub) {
  return static_cast<std::uint64_t>(kStubs[static_cast<unsigned>(stub)] - twinwalk_payload32_begin);
}

std::uint64_t offset_of_to_user_32() {
  return static_cast<std::uint64_t>(twinwalk_stub32_to_user - twinwalk_payload32_begin);
}

}  // namespace twinwalk::kvm
