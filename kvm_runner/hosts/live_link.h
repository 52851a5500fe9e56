#ifndef TWINWALK_KVM_RUNNER_HOSTS_LIVE_LINK_H_
#define TWINWALK_KVM_RUNNER_HOSTS_LIVE_LINK_H_

// A link to an agent that answers line by line, in a machine that can be started again.

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "harness/trace/serial_log.h"
#include "kvm_runner/remote/line_channel.h"
#include "kvm_runner/remote/remote_subject.h"
#include "kvm_runner/subjects.h"

namespace twinwalk::hosts {

// A machine in which an agent runs, from power-on to the end.
class LiveHost {
 public:
  virtual ~LiveHost() = default;
  // The descriptor of the agent's port, both ways.
  virtual int port() const = 0;
  // Whether its agent is still to start, and will say so: before, what it is sent is lost.
  virtual bool boots() const = 0;
  // What its console said last.
  virtual std::string last_words() const = 0;
};

// What is wanted of an agent besides its KVM.
struct AgentWishes {
  bool watched = false;  // it says what programs reach
  Driving driving = Driving::kFaster;
};

struct LiveHostPlan {
  // Null, and why, if it does not come up.
  std::function<std::unique_ptr<LiveHost>(std::string& why)> start;
  // Commands for the agent before it is asked for anything ("kvm kvm-amd npt=0").
  std::vector<std::string> commands;
  AgentWishes wishes;
  std::string suffix;                 // of the description: which emulator
  std::chrono::seconds patience{60};  // with an agent that says nothing
};

class LiveLink final : public remote::Link {
 public:
  explicit LiveLink(LiveHostPlan plan) : plan_(std::move(plan)) {}
  ~LiveLink() override;

  // Starts the machine. False, and why, if it cannot serve.
  bool open(std::string& why);

  std::string describe() const override { return description_ + plan_.suffix; }
  void share_setup(bool share) override { share_ = share; }
  void run(std::span<const Program> programs, std::vector<remote::Answer>& answers) override;

 private:
  bool try_open(std::string& why);
  bool be_ready(std::string& why);
  bool tell_sharing(std::string& why);
  // Reads lines until one about `number`; false, and why, if none comes.
  bool await(std::uint64_t number, remote::Answer* answer, std::string& why);
  bool command(const std::string& text, std::string& why);
  // Asks from `first` on; returns the first one without an answer.
  std::size_t ask(std::span<const Program> programs, std::size_t first,
                  std::vector<remote::Answer>& answers, std::string& why);
  void close();

  LiveHostPlan plan_;
  std::unique_ptr<LiveHost> host_;
  std::unique_ptr<remote::LineChannel> channel_;
  std::string description_;
  bool share_ = false, shares_ = false;  // wanted, and told the agent
  std::uint64_t next_ = 1;               // number of the next line that wants an answer
};

// Open; null, and why, if the machine cannot serve.
std::unique_ptr<LiveLink> open_live_link(LiveHostPlan plan, std::string& why);

}  // namespace twinwalk::hosts

#endif  // TWINWALK_KVM_RUNNER_HOSTS_LIVE_LINK_H_
