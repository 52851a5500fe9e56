#include "oracle/unicorn/server_process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

extern "C" char** environ;  // NOLINT: POSIX declares it nowhere

namespace twinwalk::oracle::unicorn {
namespace {

// Descriptors that are handed over lie above those that the server expects, so that no dup2
// overwrites another.
constexpr int kFirstFd = 16;

int raised(int fd) {
  if (fd < 0) return fd;
  const int high = fcntl(fd, F_DUPFD_CLOEXEC, kFirstFd);
  close(fd);
  return high;
}

std::string failure(const char* what) { return std::string(what) + ": " + std::strerror(errno); }

std::string signal_text(int signal) {
  const char* name = sigabbrev_np(signal);
  return name != nullptr ? std::string("SIG") + name : "signal " + std::to_string(signal);
}

}  // namespace

ServerProcess::ServerProcess(std::string program) : program_(std::move(program)) {}

ServerProcess::~ServerProcess() {
  if (running()) bury(true);
  if (area_ != nullptr) munmap(area_, kAreaBytes);
  if (area_fd_ >= 0) close(area_fd_);
}

bool ServerProcess::make_area(std::string& why) {
  if (area_ != nullptr) return true;
  area_fd_ = raised(memfd_create("twinwalk-unicorn", MFD_CLOEXEC));
  if (area_fd_ < 0 || ftruncate(area_fd_, kAreaBytes) != 0)
    return why = failure("shared memory"), false;
  void* area = mmap(nullptr, kAreaBytes, PROT_READ | PROT_WRITE, MAP_SHARED, area_fd_, 0);
  if (area == MAP_FAILED) return why = failure("shared memory"), false;
  area_ = static_cast<std::uint8_t*>(area);
  return true;
}

bool ServerProcess::spawn(std::string& why) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
    return why = failure("socket"), false;
  socket_ = raised(pair[0]);
  const int theirs = raised(pair[1]);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, area_fd_, kAreaFd);
  posix_spawn_file_actions_adddup2(&actions, theirs, kSocketFd);
  // A group of its own: a Ctrl-C ends the client, whose end the server notices; it is not a crash
  // of the server.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);

  std::string serve = "--serve";
  char* arguments[] = {program_.data(), serve.data(), nullptr};
  const int error = posix_spawn(&pid_, program_.c_str(), &actions, &attributes, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  close(theirs);
  if (error == 0) return true;
  pid_ = -1;
  close(std::exchange(socket_, -1));
  why = "cannot start " + program_ + ": " + std::strerror(error);
  return false;
}

bool ServerProcess::start(std::string& why) {
  if (running()) return true;
  return make_area(why) && spawn(why) && exchange(Request{}, why);
}

bool ServerProcess::execute(std::uint32_t records, std::string& why) {
  Request request;
  request.records = records;
  return exchange(request, why);
}

bool ServerProcess::exchange(const Request& request, std::string& why) {
  reply_ = {};
  // A send that fails means that the process is gone; hear_reply() then finds the socket closed.
  static_cast<void>(send(socket_, &request, sizeof request, MSG_NOSIGNAL));
  const Heard heard = hear_reply();
  if (heard != Heard::kAll || reply_.magic != kMagic || reply_.results > kMaxResults) {
    why = bury(heard == Heard::kTimeout);
    return false;
  }
  if (reply_.state == State::kReady) return true;
  reply_.why[sizeof reply_.why - 1] = '\0';
  bury(false);
  why = reply_.why;
  return false;
}

ServerProcess::Heard ServerProcess::hear_reply() {
  const auto end = std::chrono::steady_clock::now() + deadline_;
  std::size_t have = 0;
  while (have < sizeof reply_) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        end - std::chrono::steady_clock::now());
    if (left.count() <= 0) return Heard::kTimeout;
    pollfd ready{socket_, POLLIN, 0};
    const int polled = poll(&ready, 1, static_cast<int>(left.count()));
    if (polled < 0 && errno != EINTR) return Heard::kClosed;
    if (polled <= 0) continue;
    const ssize_t got =
        read(socket_, reinterpret_cast<char*>(&reply_) + have, sizeof reply_ - have);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return Heard::kClosed;
    have += static_cast<std::size_t>(got);
  }
  return Heard::kAll;
}

// Ends the process, if it has not ended itself, and says how it ended.
std::string ServerProcess::bury(bool hung) {
  close(std::exchange(socket_, -1));
  if (hung) kill(pid_, SIGKILL);
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  if (hung) return "hung: no answer within " + std::to_string(deadline_.count()) + " ms";
  if (WIFSIGNALED(status)) return "crashed: " + signal_text(WTERMSIG(status));
  return "ended with status " + std::to_string(WEXITSTATUS(status));
}

}  // namespace twinwalk::oracle::unicorn
