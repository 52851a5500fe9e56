#ifndef TWINWALK_ORACLE_UNICORN_DOORBELL_H_
#define TWINWALK_ORACLE_UNICORN_DOORBELL_H_

// How one side tells the other that it is its turn. A batch of a short trace takes some
// ten microseconds, less than waking a sleeping process: so whoever waits first looks at
// a counter in shared memory for a while, giving its processor away between looks, and
// sleeps on the socket only then. The end of the other process closes the socket.

#include <atomic>
#include <chrono>
#include <cstdint>

namespace twinwalk::oracle::unicorn {

struct Doorbell {
  std::atomic<std::uint32_t> rings;
  std::atomic<std::uint32_t> sleeping;  // 1: the one who waits wants a byte on the socket
};
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

enum class Heard : std::uint8_t { kRing, kClosed, kTimeout };

// Everything written before is visible to the one who hears it.
void ring(Doorbell& bell, int socket);

// Waits until the bell was rung more than `heard` times, `spin` long by looking. A deadline of 0 is
// none.
Heard wait_for_ring(Doorbell& bell, std::uint32_t heard, int socket, std::chrono::microseconds spin,
                    std::chrono::milliseconds deadline);

}  // namespace twinwalk::oracle::unicorn

#endif  // TWINWALK_ORACLE_UNICORN_DOORBELL_H_
