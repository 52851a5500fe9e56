#include "kvm_runner/core_arena_mapping.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

namespace twinwalk::kvm {
namespace {

constexpr std::uint64_t kHpa = std::uint64_t{4} << 30;
constexpr std::uint64_t kFrameBytes = std::uint64_t{224} << 20,
                        kTableBytes = std::uint64_t{32} << 20;

}  // namespace

CoreArenaMapping::~CoreArenaMapping() {
  if (place_.memory != nullptr) munmap(place_.memory, place_.bytes());
}

bool CoreArenaMapping::open(std::string& why) {
  void* const memory = mmap(nullptr, kFrameBytes + kTableBytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    why = std::string("mmap: ") + std::strerror(errno);
    return false;
  }
  place_ = {static_cast<unsigned char*>(memory), kHpa, kFrameBytes, kTableBytes};
  return true;
}

}  // namespace twinwalk::kvm
