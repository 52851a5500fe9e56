#ifndef TWINWALK_HARNESS_FUZZING_CHILD_H_
#define TWINWALK_HARNESS_FUZZING_CHILD_H_

// A child process: another program, or a function of this one in a process of its own, so that
// what it does to itself (a crash, a hang) is seen and survived. Children end with their parent.

#include <sys/types.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace twinwalk::fuzz {

struct Command {
  std::vector<std::string> words;                                // words[0]: path of the program
  std::vector<std::pair<std::string, std::string>> environment;  // added to this process's own
  std::string log;  // standard output and error go there; empty: nowhere
  bool append_log = false;
  std::string folder;  // working folder; empty: as it is
};

class Child {
 public:
  Child() = default;
  ~Child();  // kills what still runs
  Child(Child&& other) noexcept;
  Child& operator=(Child&& other) noexcept;

  // False if no process could be made; a program that cannot be run exits with 127.
  bool start(const Command& command);
  // `function`'s result is the exit code. Keyboard interrupts do not reach it.
  bool call(const std::function<int()>& function);

  // Collects its status if it has ended.
  bool running();
  bool started() const { return pid_ > 0 || ended_; }
  // Preconditions of these three: it has ended.
  bool exited() const;  // by itself, not by a signal
  int exit_code() const;
  int signal() const;  // 0 if none

  void send(int signal);
  // SIGTERM, and SIGKILL after `seconds`.
  void stop(double seconds);
  // Waits at most that long. False: still running.
  bool wait(double seconds);

 private:
  pid_t pid_ = -1;
  int status_ = 0;
  bool ended_ = false;
};

// Runs a command to its end, at most `seconds`. True if it exited with 0.
bool run_command(const Command& command, double seconds);

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_CHILD_H_
