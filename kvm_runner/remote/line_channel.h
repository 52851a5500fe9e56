#ifndef TWINWALK_KVM_RUNNER_REMOTE_LINE_CHANNEL_H_
#define TWINWALK_KVM_RUNNER_REMOTE_LINE_CHANNEL_H_

// Lines over file descriptors: a serial port, a socket, a pipe. Reading and writing go on at the
// same time, so that two ends that both send much do not wait for each other.

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

namespace twinwalk::remote {

class LineChannel {
 public:
  using Clock = std::chrono::steady_clock;
  // Owns neither descriptor; both become non-blocking. They may be the same.
  LineChannel(int in, int out);

  // Queues; goes out whenever the channel waits for something.
  void send(std::string_view text) { pending_ += text; }
  std::size_t unsent() const { return pending_.size() - sent_; }

  enum class Got : std::uint8_t {
    kLine,
    kTimeout,
    kClosed,  // the other end is gone
  };
  // The next line, without its newline. Sends what is queued meanwhile.
  Got next(std::string& line, Clock::time_point until);
  // Sends all that is queued. False if the time is over or the other end is gone.
  bool flush(Clock::time_point until);

 private:
  bool take_line(std::string& line);
  // Waits for either direction; false if the time is over.
  bool wait(bool want_input, Clock::time_point until);
  bool write_some();
  bool read_some();

  int in_, out_;
  std::string pending_, buffer_;
  std::size_t sent_ = 0, looked_at_ = 0, taken_ = 0;
  bool closed_ = false;
  bool readable_ = false, writable_ = false;
};

}  // namespace twinwalk::remote

#endif  // TWINWALK_KVM_RUNNER_REMOTE_LINE_CHANNEL_H_
