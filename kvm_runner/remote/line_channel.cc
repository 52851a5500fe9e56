#include "kvm_runner/remote/line_channel.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <ctime>

namespace twinwalk::remote {
namespace {

void make_non_blocking(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  if (flags >= 0) fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

// write(), without the signal if nobody reads any more. A descriptor may be a pipe or a device:
// send() and its flag are for sockets.
ssize_t write_quietly(int fd, const char* bytes, std::size_t count) {
  sigset_t pipe, before;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe, &before);
  const ssize_t n = write(fd, bytes, count);
  const int error = errno;
  constexpr timespec kNow = {0, 0};
  if (n < 0 && error == EPIPE) sigtimedwait(&pipe, nullptr, &kNow);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = error;
  return n;
}

bool later(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

}  // namespace

LineChannel::LineChannel(int in, int out) : in_(in), out_(out) {
  make_non_blocking(in);
  if (out != in) make_non_blocking(out);
}

bool LineChannel::take_line(std::string& line) {
  const std::size_t end = buffer_.find('\n', looked_at_);
  if (end == std::string::npos) {
    looked_at_ = buffer_.size();
    if (taken_ == buffer_.size()) {
      buffer_.clear();
      taken_ = looked_at_ = 0;
    }
    return false;
  }
  line.assign(buffer_, taken_, end - taken_);
  taken_ = looked_at_ = end + 1;
  return true;
}

bool LineChannel::wait(bool want_input, Clock::time_point until) {
  pollfd fds[2] = {};
  nfds_t count = 0;
  const nfds_t input = count;
  if (want_input) fds[count++] = {in_, POLLIN, 0};
  const nfds_t output = count;
  if (unsent() != 0) fds[count++] = {out_, POLLOUT, 0};
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
  const auto milliseconds = std::clamp<std::int64_t>(left, 0, 60'000);
  const int n = poll(fds, count, static_cast<int>(milliseconds));
  readable_ = want_input && n > 0 && fds[input].revents != 0;
  writable_ = output < count && n > 0 && fds[output].revents != 0;
  return n > 0 || left > 0;
}

bool LineChannel::write_some() {
  const ssize_t n = write_quietly(out_, pending_.data() + sent_, unsent());
  if (n < 0) return later(errno);
  sent_ += static_cast<std::size_t>(n);
  if (sent_ == pending_.size()) {
    pending_.clear();
    sent_ = 0;
  }
  return true;
}

bool LineChannel::read_some() {
  char bytes[1 << 16];
  const ssize_t n = read(in_, bytes, sizeof bytes);
  if (n < 0) return later(errno);
  buffer_.append(bytes, static_cast<std::size_t>(n));
  return n != 0;
}

LineChannel::Got LineChannel::next(std::string& line, Clock::time_point until) {
  for (;;) {
    if (take_line(line)) return Got::kLine;
    if (closed_) return Got::kClosed;
    if (!wait(true, until)) return Got::kTimeout;
    if (writable_ && !write_some()) closed_ = true;
    if (readable_ && !read_some()) closed_ = true;
  }
}

bool LineChannel::flush(Clock::time_point until) {
  while (unsent() != 0) {
    if (!wait(false, until)) return false;
    if (writable_ && !write_some()) return false;
  }
  return true;
}

}  // namespace twinwalk::remote
