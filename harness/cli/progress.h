#ifndef TWINWALK_HARNESS_CLI_PROGRESS_H_
#define TWINWALK_HARNESS_CLI_PROGRESS_H_

// How far long work is, on standard error: one line that changes on a terminal, else a line every
// ten seconds.

#include <chrono>
#include <cstddef>
#include <string>

namespace twinwalk::cli {

class Progress {
 public:
  Progress(std::string what, std::size_t of);
  ~Progress();  // the line is gone
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void reached(std::size_t done);

 private:
  std::string what_;
  std::size_t of_;
  bool terminal_, shown_ = false;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_PROGRESS_H_
