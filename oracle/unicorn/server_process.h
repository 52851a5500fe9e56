#ifndef TWINWALK_ORACLE_UNICORN_SERVER_PROCESS_H_
#define TWINWALK_ORACLE_UNICORN_SERVER_PROCESS_H_

// The `twinwalk-unicorn` process as its client holds it: started when needed, watched
// while it works, killed and named when it crashes or hangs.

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>

#include "oracle/unicorn/protocol.h"

namespace twinwalk::oracle::unicorn {

class ServerProcess {
 public:
  explicit ServerProcess(std::string program);
  ~ServerProcess();
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  bool running() const { return pid_ > 0; }

  // Starts the process and waits for its self-probe. False, with one line in `why`, if it cannot
  // serve.
  bool start(std::string& why);

  // Has the first `records` records of journal() executed. False if the process crashed, hung or
  // refused; it is gone then and `why` says how. Precondition: running().
  bool execute(std::uint32_t records, std::string& why);

  // Valid once start() succeeded. The area outlives the process.
  Record* journal() { return reinterpret_cast<Record*>(area_ + kJournalAt); }
  const Result* results() const { return reinterpret_cast<const Result*>(area_ + kResultsAt); }
  const Reply& reply() const { return reply_; }  // the last one

  void set_deadline(std::chrono::milliseconds deadline) { deadline_ = deadline; }

 private:
  bool make_area(std::string& why);
  bool spawn(std::string& why);
  bool exchange(const Request& request, std::string& why);
  Control& control() { return *reinterpret_cast<Control*>(area_); }
  std::string bury(bool hung);

  std::string program_;
  std::chrono::milliseconds deadline_{10'000};
  int area_fd_ = -1, socket_ = -1;
  std::uint8_t* area_ = nullptr;
  pid_t pid_ = -1;
  std::uint32_t replies_ = 0;  // heard from this process
  Reply reply_;
};

}  // namespace twinwalk::oracle::unicorn

#endif  // TWINWALK_ORACLE_UNICORN_SERVER_PROCESS_H_
