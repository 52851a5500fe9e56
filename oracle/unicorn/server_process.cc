#include "oracle/unicorn/server_process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <new>
#include <utility>

extern "C" char** environ;  // NOLINT: POSIX declares it nowhere

namespace twinwalk::oracle::unicorn {
namespace {

// Descriptors that are handed over lie above those that the server expects, so that no dup2
// overwrites another.
constexpr int kFirstFd = 16;

// A short trace's batch is done within this time; a longer one is worth sleeping for.
constexpr std::chrono::microseconds kSpin{150};

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
  new (area_) Control{};
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
  replies_ = 0;
  return make_area(why) && spawn(why) && exchange(Request{}, why);
}

bool ServerProcess::execute(std::uint32_t records, std::string& why) {
  Request request;
  request.records = records;
  return exchange(request, why);
}

bool ServerProcess::exchange(const Request& request, std::string& why) {
  control().request = request;
  ring(control().requested, socket_);
  const Heard heard = wait_for_ring(control().replied, replies_, socket_, kSpin, deadline_);
  ++replies_;
  reply_ = heard == Heard::kRing ? control().reply : Reply{};
  if (heard != Heard::kRing || reply_.magic != kMagic || reply_.results > kMaxResults) {
    why = bury(heard != Heard::kClosed);
    return false;
  }
  if (reply_.state == State::kReady) return true;
  reply_.why[sizeof reply_.why - 1] = '\0';
  bury(false);
  why = reply_.why;
  return false;
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
