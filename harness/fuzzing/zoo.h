#ifndef TWINWALK_HARNESS_FUZZING_ZOO_H_
#define TWINWALK_HARNESS_FUZZING_ZOO_H_

// The verb `zoo`: how well the harness finds bugs that are known to be there, and keeps quiet about
// what is none. Each corpus/zoo/ID.patch is applied to a copy of the core, the fuzz target is built
// with it, and fuzzes from an empty corpus until the first detection. Then the seeded program
// itself minimises and explains what was found.
//
// Canaries. A patch may define, in any source file that it changes,
//     extern "C" { unsigned mmu_canary_reached = 0, mmu_canary_triggered = 0; }
// and count them up where the faulty line runs and where its condition is true. The target looks
// for these symbols weakly and exports them; the core itself has none of it.
//
// Controls: patches called neutral-*, and neutral-OPTION of each option of the core that must not
// show, the core as it is among them (neutral-nothing). They come last and are fuzzed as long as
// the slowest detection took.

#include <functional>
#include <string>
#include <vector>

#include "harness/fuzzing/output.h"
#include "harness/fuzzing/zoo_result.h"

namespace twinwalk::fuzz {

// Writes the pages for people beside zoo.jsonl. Returns "" or why not.
using ZooReportWriter = std::function<std::string(const std::string& lines, const Output&)>;

struct ZooOptions {
  double seconds = 60;           // of fuzzing, a trial; the build not counted
  unsigned jobs = 0;             // 0: one a core
  unsigned repeats = 1;          // trials, each with seeds of its own
  std::string only;              // an ID; empty: all
  bool json = false;             // result lines and nothing else on standard output
  std::string out;               // folder; empty: twinwalk-out/N in the current folder
  std::string zoo;               // folder of patches; empty: the repository's
  std::string build;             // build folder; empty: build/zoo beside this program's build
  ZooReportWriter write_report;  // none: no pages
};

// Something to be tried.
struct Exhibit {
  std::string id;
  std::string patch, walk;  // paths; empty: the core as it is
  std::string config;       // empty: by the walk
  bool control = false;
};
// Bugs, sorted by ID, then controls. `folder`: of patches.
std::vector<Exhibit> list_exhibits(const std::string& folder);

// 0: all is as it should be (is_good). 1: something is not. 2: bad options, or an exhibit could not
// be built or run. An interrupt ends it early: what was done is in the report.
int run_zoo(const ZooOptions& options);

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_ZOO_H_
