#ifndef TWINWALK_KVM_RUNNER_HOSTS_EMULATOR_H_
#define TWINWALK_KVM_RUNNER_HOSTS_EMULATOR_H_

// An emulator as a child process, with sockets on which it is to call back (its guest's serial
// port, its monitor) and a file for all that it prints. It ends with this process.

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

namespace twinwalk::hosts {

// A folder of its own under the system's temporary one, gone with the object.
class ScratchFolder {
 public:
  ScratchFolder();  // throws std::system_error
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

class Emulator {
 public:
  using Seconds = std::chrono::seconds;

  Emulator() = default;
  ~Emulator() { kill(); }
  Emulator(const Emulator&) = delete;
  Emulator& operator=(const Emulator&) = delete;

  // words[0] is looked for as the shell does. False, and why, if it cannot be started. `output`
  // takes standard output and error.
  bool start(const std::vector<std::string>& words, const std::string& output,
             const std::string& folder, std::string& why);
  bool running();
  // Waits for the end; false if it still runs then.
  bool wait(std::chrono::milliseconds most);
  void kill();

 private:
  pid_t pid_ = -1;
};

// A socket that someone is to connect to.
class Listener {
 public:
  Listener() = default;
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  bool open_local(const std::string& path, std::string& why);  // a Unix socket
  // On 127.0.0.1, any free port; 0 if there is none.
  unsigned open_tcp(std::string& why);
  // The connection; -1 if none comes in time or the emulator is gone before.
  int accept(Emulator& emulator, std::chrono::seconds most);

 private:
  int fd_ = -1;
};

std::string contents_of(const std::string& path);  // empty if it cannot be read
// The last lines of a file, as one line of text, for messages.
std::string tail_of(const std::string& path, std::size_t most_lines);

}  // namespace twinwalk::hosts

#endif  // TWINWALK_KVM_RUNNER_HOSTS_EMULATOR_H_
