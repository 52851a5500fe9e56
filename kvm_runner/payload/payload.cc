#include "kvm_runner/payload/payload.h"

#include "kvm_runner/payload/stub_names.h"

extern "C" {
extern const unsigned char twinwalk_payload_begin[], twinwalk_payload_user[],
    twinwalk_payload_batched[], twinwalk_batch[], twinwalk_payload_end[];
#define TWINWALK_DECLARE(name) extern const unsigned char twinwalk_stub_##name[];
TWINWALK_STUBS(TWINWALK_DECLARE)
TWINWALK_STUBS_64(TWINWALK_DECLARE)
}

namespace twinwalk::kvm {
namespace {

#define TWINWALK_ADDRESS(name) twinwalk_stub_##name,
const unsigned char* const kStubs[] = {
    TWINWALK_STUBS(TWINWALK_ADDRESS)  // in the order of enum Stub
    TWINWALK_STUBS_64(TWINWALK_ADDRESS)};
static_assert(sizeof(kStubs) / sizeof(kStubs[0]) == static_cast<unsigned>(Stub::kCount));

}  // namespace

std::span<const unsigned char> payload_bytes(std::uint8_t cpl) {
  if (cpl == 0) return {twinwalk_payload_begin, twinwalk_payload_user};
  return {twinwalk_payload_user, twinwalk_payload_batched};
}

std::span<const unsigned char> batched_payload_bytes() {
  return {twinwalk_payload_batched, twinwalk_payload_end};
}

std::uint64_t offset_of_interpreter() {
  return static_cast<std::uint64_t>(twinwalk_batch - twinwalk_payload_batched);
}

std::uint64_t offset_of(Stub stub) {
  return static_cast<std::uint64_t>(kStubs[static_cast<unsigned>(stub)] - twinwalk_payload_begin);
}

Stub sized(Stub first, std::uint64_t size) {
  const unsigned step = size == 8 ? 0 : size == 4 ? 1 : size == 2 ? 2 : 3;
  return static_cast<Stub>(static_cast<unsigned>(first) + step);
}

}  // namespace twinwalk::kvm
