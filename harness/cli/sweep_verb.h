#ifndef TWINWALK_HARNESS_CLI_SWEEP_VERB_H_
#define TWINWALK_HARNESS_CLI_SWEEP_VERB_H_

#include <string>

namespace twinwalk::cli {

struct SweepOptionsOfVerb {
  std::string mode = "all";
  std::string shard = "0/1";  // "i/n", i from 0
  std::string block;          // one block alone; empty: all
  bool json = false;
};

// `sweep`: the exhaustive sweep of the core against both references. Ctrl-C ends it with what is
// known so far. Exit 0, or 1 if a case diverges or the references disagree beyond the ledger.
int run_sweep_verb(const SweepOptionsOfVerb& options);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_SWEEP_VERB_H_
