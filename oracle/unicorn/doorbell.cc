#include "oracle/unicorn/doorbell.h"

#include <poll.h>
#include <sched.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace twinwalk::oracle::unicorn {
namespace {

using Clock = std::chrono::steady_clock;

// The socket holds the bytes that woke somebody; only that they arrive matters.
bool drain(int socket) {
  char bytes[64];
  const ssize_t got = recv(socket, bytes, sizeof bytes, MSG_DONTWAIT);
  return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

// Milliseconds for poll(2): -1 is for ever; otherwise rounded up, so that it never returns just
// before the end.
int poll_time(Clock::time_point end, std::chrono::milliseconds deadline) {
  if (deadline.count() == 0) return -1;
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count() + 1;
  return static_cast<int>(std::max<std::int64_t>(left, 0));
}

}  // namespace

void ring(Doorbell& bell, int socket) {
  bell.rings.fetch_add(1, std::memory_order_seq_cst);
  if (bell.sleeping.load(std::memory_order_seq_cst) == 0) return;
  const char byte = 0;
  // A send that fails means that nobody is left to hear it; the next wait finds the socket closed.
  static_cast<void>(send(socket, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT));
}

Heard wait_for_ring(Doorbell& bell, std::uint32_t heard, int socket, std::chrono::microseconds spin,
                    std::chrono::milliseconds deadline) {
  const auto begin = Clock::now();
  const auto rung = [&] { return bell.rings.load(std::memory_order_seq_cst) != heard; };
  while (Clock::now() - begin < spin) {
    if (rung()) return Heard::kRing;
    sched_yield();
  }
  for (;;) {
    bell.sleeping.store(1, std::memory_order_seq_cst);
    if (rung()) break;
    pollfd readable{socket, POLLIN, 0};
    const int polled = poll(&readable, 1, poll_time(begin + deadline, deadline));
    if (rung()) break;
    if (polled > 0 && !drain(socket)) return Heard::kClosed;
    if (deadline.count() != 0 && Clock::now() - begin >= deadline) return Heard::kTimeout;
  }
  bell.sleeping.store(0, std::memory_order_seq_cst);
  return Heard::kRing;
}

}  // namespace twinwalk::oracle::unicorn
