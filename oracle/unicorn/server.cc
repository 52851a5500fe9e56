#include "oracle/unicorn/server.h"

#include <sys/mman.h>
#include <unicorn/unicorn.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <string_view>

#include "oracle/unicorn/executor.h"
#include "oracle/unicorn/protocol.h"

namespace twinwalk::oracle::unicorn {
namespace {

// Longer than any client waits: the last resort when the client is gone and the engine hangs.
constexpr unsigned kOwnDeadlineSeconds = 60;

// How long the next request is waited for awake: a client in the middle of many short traces comes
// back at once.
constexpr std::chrono::microseconds kSpin{40};

// What TWINWALK_UNICORN_MISBEHAVE asks for, so that tests see a real crash and a real hang of this
// process: "abort:N" or "spin:N" at the N-th batch that has records, counted from 1.
struct Misbehaviour {
  bool spin = false;
  unsigned at = 0;  // 0: never
};

Misbehaviour misbehaviour() {
  const char* text = std::getenv("TWINWALK_UNICORN_MISBEHAVE");
  if (text == nullptr) return {};
  const std::string_view all(text);
  const std::size_t colon = all.find(':');
  if (colon == std::string_view::npos) return {};
  Misbehaviour wanted{all.substr(0, colon) == "spin", 0};
  std::from_chars(all.data() + colon + 1, all.data() + all.size(), wanted.at);
  return wanted;
}

void misbehave(bool spin) {
  if (!spin) std::abort();
  volatile bool for_ever = true;
  while (for_ever) {
  }
}

Reply version_reply() {
  Reply reply;
  unsigned major = 0, minor = 0;
  const unsigned packed = uc_version(&major, &minor);
  reply.major = static_cast<int>(major);
  reply.minor = static_cast<int>(minor);
  reply.patch = static_cast<int>(packed >> 8 & 0xff);
  return reply;
}

std::unique_ptr<Executor> start_engine(Reply& reply) {
  try {
    auto executor = std::make_unique<Executor>();
    reply.translates = executor->translates() ? 1 : 0;
    return executor;
  } catch (const std::exception& error) {
    reply.state = State::kRefused;
    std::strncpy(reply.why, error.what(), sizeof reply.why - 1);
    return nullptr;
  }
}

}  // namespace

int serve() {
  void* mapped = mmap(nullptr, kAreaBytes, PROT_READ | PROT_WRITE, MAP_SHARED, kAreaFd, 0);
  if (mapped == MAP_FAILED) return 2;
  auto* area = static_cast<std::uint8_t*>(mapped);
  auto& control = *reinterpret_cast<Control*>(area);
  const auto* journal = reinterpret_cast<const Record*>(area + kJournalAt);
  auto* results = reinterpret_cast<Result*>(area + kResultsAt);

  Reply reply = version_reply();
  const std::unique_ptr<Executor> executor = start_engine(reply);
  const Misbehaviour wanted = misbehaviour();
  unsigned batches = 0;
  for (std::uint32_t heard = 0;; ++heard) {
    if (wait_for_ring(control.requested, heard, kSocketFd, kSpin, {}) != Heard::kRing) return 0;
    const Request request = control.request;
    if (request.magic != kMagic) return 2;
    reply.results = 0;
    const std::size_t records = std::min<std::size_t>(request.records, kMaxRecords);
    if (executor != nullptr && records != 0) {
      alarm(kOwnDeadlineSeconds);
      if (++batches == wanted.at) misbehave(wanted.spin);
      try {
        reply.results = static_cast<std::uint32_t>(executor->execute({journal, records}, results));
      } catch (const std::exception& error) {
        reply.state = State::kRefused;
        std::strncpy(reply.why, error.what(), sizeof reply.why - 1);
      }
      alarm(0);
    }
    control.reply = reply;
    ring(control.replied, kSocketFd);
    if (reply.state == State::kRefused) return 1;
  }
}

}  // namespace twinwalk::oracle::unicorn
