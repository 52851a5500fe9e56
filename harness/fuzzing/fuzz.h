#ifndef TWINWALK_HARNESS_FUZZING_FUZZ_H_
#define TWINWALK_HARNESS_FUZZING_FUZZ_H_

// The verb `fuzz`: workers on all cores, triage as candidates come, Unicorn beside them, a report
// at the end.

#include <functional>
#include <string>

namespace twinwalk::fuzz {

enum class Engine {
  kLibFuzzer,
  kAfl,
  kBatches,  // own: a population that grows by batches (fuzzers/batch_fuzzer.h)
};

struct RunRecord;  // summary.h
struct Output;     // output.h

// Writes the pages for people (report.html, junit.xml) beside summary.json. Returns "" or why not.
// Injected, since the renderers of reports/ are not this folder's to see.
using ReportWriter = std::function<std::string(const RunRecord&, const Output&)>;

struct FuzzOptions {
  double seconds = 60;         // 0: until it is interrupted
  unsigned jobs = 0;           // workers; 0: one a core
  std::string config = "all";  // see config.h
  Engine engine = Engine::kLibFuzzer;
  std::string
      corpus;  // folder, made if it is not there; empty: OUT/corpus from the repository's seeds
  std::string sync;             // folder that runs share, see fleet.h; empty: this run is alone
  std::string name;             // of this run among them; empty: the machine's
  unsigned unicorn_share = 20;  // percent of the time that Unicorn may take; 0: no Unicorn at all
  std::string out;              // folder; empty: twinwalk-out/N in the current folder
  ReportWriter write_report;    // none: no pages
};

// Blocks until it is done; SIGINT and SIGTERM end it early and cleanly. Progress goes to standard
// error, findings and, last, the path of the report to standard output. 0: no new divergence. 1:
// there are some. 2: bad options, a missing worker, or a disk that is full: one line on standard
// error says what; findings made before are whole.
int run_fuzz(const FuzzOptions& options);

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_FUZZ_H_
