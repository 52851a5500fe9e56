#include "harness/fuzzing/child.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <thread>

namespace twinwalk::fuzz {
namespace {

using Clock = std::chrono::steady_clock;

// In the child: away from the terminal's process group, and not outliving the parent.
void leave_parent(pid_t parent) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // it died before that took hold
}

void redirect(const Command& command) {
  const int flags = O_WRONLY | O_CREAT | (command.append_log ? O_APPEND : O_TRUNC);
  const int in = ::open("/dev/null", O_RDONLY);
  const int out = command.log.empty() ? ::open("/dev/null", O_WRONLY)
                                      : ::open(command.log.c_str(), flags, 0644);
  if (in >= 0) ::dup2(in, 0);
  if (out >= 0) {
    ::dup2(out, 1);
    ::dup2(out, 2);
  }
}

}  // namespace

Child::~Child() {
  if (running()) {
    send(SIGKILL);
    wait(10);
  }
}

Child::Child(Child&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      status_(other.status_),
      ended_(std::exchange(other.ended_, false)) {}

Child& Child::operator=(Child&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(status_, other.status_);
  std::swap(ended_, other.ended_);
  return *this;
}

bool Child::start(const Command& command) {
  const pid_t parent = ::getpid();
  ended_ = false;
  pid_ = ::fork();
  if (pid_ != 0) return pid_ > 0;
  leave_parent(parent);
  redirect(command);
  if (!command.folder.empty() && ::chdir(command.folder.c_str()) != 0) ::_exit(127);
  for (const auto& [name, value] : command.environment) ::setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> words;
  for (const std::string& w : command.words) words.push_back(const_cast<char*>(w.c_str()));
  words.push_back(nullptr);
  ::execvp(words[0], words.data());
  ::_exit(127);
}

bool Child::call(const std::function<int()>& function) {
  const pid_t parent = ::getpid();
  std::fflush(nullptr);
  ended_ = false;
  pid_ = ::fork();
  if (pid_ != 0) return pid_ > 0;
  leave_parent(parent);
  std::signal(SIGINT, SIG_IGN);
  std::signal(SIGTERM, SIG_DFL);
  const int code = function();
  std::fflush(nullptr);
  ::_exit(code);
}

bool Child::running() {
  if (pid_ <= 0) return false;
  const pid_t got = ::waitpid(pid_, &status_, WNOHANG);
  if (got == 0) return true;
  ended_ = true;
  pid_ = -1;
  return false;
}

bool Child::exited() const { return ended_ && WIFEXITED(status_); }
int Child::exit_code() const { return exited() ? WEXITSTATUS(status_) : -1; }
int Child::signal() const { return ended_ && WIFSIGNALED(status_) ? WTERMSIG(status_) : 0; }

void Child::send(int signal) {
  if (pid_ > 0) ::kill(pid_, signal);
}

bool Child::wait(double seconds) {
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  while (running()) {
    if (Clock::now() >= end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

void Child::stop(double seconds) {
  send(SIGTERM);
  if (wait(seconds)) return;
  send(SIGKILL);
  wait(10);
}

bool run_command(const Command& command, double seconds) {
  Child child;
  if (!child.start(command)) return false;
  if (!child.wait(seconds)) {
    child.stop(1);
    return false;
  }
  return child.exit_code() == 0;
}

}  // namespace twinwalk::fuzz
