#include "kvm_runner/vmx_image/runtime/console.h"

#include <cstdint>

#include "kvm_runner/vmx_image/runtime/ports.h"

namespace twinwalk::vmx {
namespace {

constexpr std::uint16_t kDebugPort = 0xe9;  // reads as its own number
// A 16550: data, interrupts, FIFO, line control, modem control, line status, scratch.
constexpr std::uint16_t kSerial = 0x3f8, kIer = kSerial + 1, kFcr = kSerial + 2, kLcr = kSerial + 3,
                        kMcr = kSerial + 4, kLsr = kSerial + 5;
constexpr std::uint8_t kDivisorLatch = 0x80, k8n1 = 0x03, kFifosOn = 0x07, kDtrRts = 0x03,
                       kRoomToSend = 0x20;
constexpr unsigned kPatience = 1 << 20;  // polls of a port that may not be there

bool emulated = false;

void send(char c) {
  for (unsigned n = 0; n < kPatience && (in8(kLsr) & kRoomToSend) == 0; ++n) {
  }
  out8(kSerial, static_cast<std::uint8_t>(c));
}

}  // namespace

void open_console() {
  emulated = in8(kDebugPort) == kDebugPort;
  if (emulated) return;
  out8(kIer, 0);
  out8(kLcr, kDivisorLatch);
  out8(kSerial, 1);  // 115200
  out8(kIer, 0);
  out8(kLcr, k8n1);
  out8(kFcr, kFifosOn);
  out8(kMcr, kDtrRts);
}

void say(std::string_view text) {
  if (emulated) return out8_all(kDebugPort, text);
  for (const char c : text) {
    if (c == '\n') send('\r');
    send(c);
  }
}

bool is_emulated() { return emulated; }

}  // namespace twinwalk::vmx
