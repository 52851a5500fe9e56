#ifndef TWINWALK_HARNESS_CLI_BENCH_VERB_H_
#define TWINWALK_HARNESS_CLI_BENCH_VERB_H_

namespace twinwalk::cli {

// `bench`: measures and prints the rows. Always exit 0: what a figure is worth is for its reader to
// say.
int bench(bool json);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_BENCH_VERB_H_
