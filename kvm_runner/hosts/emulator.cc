#include "kvm_runner/hosts/emulator.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <thread>

namespace twinwalk::hosts {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPoll = std::chrono::milliseconds(5);

// In the child: nothing here may allocate.
[[noreturn]] void become(char* const* words, int output, const char* folder, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  setpgid(0, 0);  // a keyboard interrupt is for the parent, which ends this in good order
  const int nothing = open("/dev/null", O_RDONLY);
  const bool ready = getppid() == parent && nothing >= 0 && dup2(nothing, STDIN_FILENO) >= 0 &&
                     dup2(output, STDOUT_FILENO) >= 0 && dup2(output, STDERR_FILENO) >= 0 &&
                     (*folder == '\0' || chdir(folder) == 0);
  if (ready) execvp(words[0], words);
  _exit(127);
}

}  // namespace

ScratchFolder::ScratchFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "twinwalk-host-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr)
    throw std::system_error(errno, std::generic_category(), pattern);
  path_ = pattern;
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

bool Emulator::start(const std::vector<std::string>& words, const std::string& output,
                     const std::string& folder, std::string& why) {
  kill();
  const int fd = open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) {
    why = output + ": " + std::strerror(errno);
    return false;
  }
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ == 0) become(arguments.data(), fd, folder.c_str(), parent);
  if (pid_ < 0) why = words[0] + ": " + std::strerror(errno);
  close(fd);
  return pid_ > 0;
}

bool Emulator::running() {
  if (pid_ <= 0) return false;
  if (waitpid(pid_, nullptr, WNOHANG) == 0) return true;
  pid_ = -1;
  return false;
}

bool Emulator::wait(std::chrono::milliseconds most) {
  const auto until = Clock::now() + most;
  while (running()) {
    if (Clock::now() >= until) return false;
    std::this_thread::sleep_for(kPoll);
  }
  return true;
}

void Emulator::kill() {
  if (!running()) return;
  ::kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

Listener::~Listener() {
  if (fd_ >= 0) close(fd_);
}

bool Listener::open_local(const std::string& path, std::string& why) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return why = path + ": too long for a socket", false;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  fd_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool open = fd_ >= 0 &&
                    bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
                    listen(fd_, 1) == 0;
  if (!open) why = path + ": " + std::strerror(errno);
  return open;
}

unsigned Listener::open_tcp(std::string& why) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool open =
      fd_ >= 0 && bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
      listen(fd_, 1) == 0 && getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  if (!open) why = std::string("a socket on the loopback: ") + std::strerror(errno);
  return open ? ntohs(address.sin_port) : 0;
}

int Listener::accept(Emulator& emulator, std::chrono::seconds most) {
  const auto until = Clock::now() + most;
  while (Clock::now() < until && emulator.running()) {
    pollfd ready{fd_, POLLIN, 0};
    if (poll(&ready, 1, 20) > 0) return accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
  }
  return -1;
}

std::string contents_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string tail_of(const std::string& path, std::size_t most_lines) {
  std::ifstream in(path);
  std::deque<std::string> lines;
  for (std::string line; std::getline(in, line);) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (line.empty()) continue;
    lines.push_back(line);
    if (lines.size() > most_lines) lines.pop_front();
  }
  std::string text;
  for (const std::string& line : lines) text += (text.empty() ? "" : " | ") + line;
  return text;
}

}  // namespace twinwalk::hosts
