#ifndef TWINWALK_ORACLE_UNICORN_BENCH_H_
#define TWINWALK_ORACLE_UNICORN_BENCH_H_

namespace twinwalk::oracle::unicorn {

// Measures the same accesses twice in one run: with nothing around Unicorn but what makes it
// execute them on a fresh TLB ("bare"), and through the client, the process boundary, the executor
// and the comparison ("harness"). Prints one JSON object
// {"version","rows":[{"accesses","bare_ns","harness_ns","ratio"},...],"ratio"}; the last is the
// ratio of the sums. `self`: path of this program, which is started as the server. Returns the exit
// status.
int bench(const char* self);

}  // namespace twinwalk::oracle::unicorn

#endif  // TWINWALK_ORACLE_UNICORN_BENCH_H_
