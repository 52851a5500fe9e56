#ifndef TWINWALK_HARNESS_CLI_CONFORM_VERB_H_
#define TWINWALK_HARNESS_CLI_CONFORM_VERB_H_

#include <string>

namespace twinwalk::cli {

struct ConformOptions {
  std::string subject;  // empty: all that the host has
  std::string host = "local";
  std::string mode;  // empty: all
  bool reload_module = false;
  bool json = false;
  std::string out;  // folder for the lines, the matrix and the traces that failed; empty: none
};

// `conform`: the conformance suite as a matrix of features by subjects. Exit 0, or 1 if a feature
// fails.
int conform(const ConformOptions& options);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_CONFORM_VERB_H_
