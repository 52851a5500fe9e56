#ifndef TWINWALK_HARNESS_CLI_RUN_H_
#define TWINWALK_HARNESS_CLI_RUN_H_

#include <string>
#include <vector>

#include "harness/cli/input.h"
#include "harness/cli/subjects.h"

namespace twinwalk::cli {

struct RunOptions {
  std::vector<std::string> paths;
  SubjectWords under_test;
  std::string references;  // as --reference has them; empty: all that can be had
  Reading reading;
  bool json = false;
  bool fit = false;  // machines that say no vendor are of the host's
};

// `run`: replays traces; a line for every operation that is not `agree`, then the summary. Exit 0
// if nothing diverges beyond what a trace's `known` lines accept, else 1.
int run(const RunOptions& options);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_RUN_H_
