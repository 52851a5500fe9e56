#ifndef TWINWALK_HARNESS_CLI_BENCH_VERB_H_
#define TWINWALK_HARNESS_CLI_BENCH_VERB_H_

namespace twinwalk::cli {

// `bench`: measures and prints the rows. Exit 0 whatever the figures are worth, which is for their
// reader to say; 1 if some row gave none.
int bench(bool json);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_BENCH_VERB_H_
