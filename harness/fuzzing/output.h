#ifndef TWINWALK_HARNESS_FUZZING_OUTPUT_H_
#define TWINWALK_HARNESS_FUZZING_OUTPUT_H_

// The folder that a run writes: where what is, and that it can be written.

#include <string>

namespace twinwalk::fuzz {

struct Output {
  std::string root;
  std::string findings() const {
    return root + "/findings";
  }  // CLASS-HASH.walk, minimised, each with its .json
  std::string candidates() const {
    return root + "/candidates";
  }  // what workers found, until it is triaged
  std::string workers() const { return root + "/workers"; }  // logs, statistics, crashing inputs
  std::string corpus() const { return root + "/corpus"; }    // unless another is given
  std::string summary() const { return root + "/summary.json"; }
  std::string report() const { return root + "/report.html"; }
  std::string junit() const { return root + "/junit.xml"; }
};

// Makes the folders under `root`, or under twinwalk-out/N with the first N that is free if it is
// empty; checks that they can be written. Returns "" or why not.
std::string make_output(const std::string& root, Output& out);

// Fills `folder` with the binary form of every trace in `seeds` (*.walk, in folders too) that does
// not set expectations aside: comments and `=` lines are left out. An empty or missing `seeds`
// gives a single small trace. Returns "" or why it failed; `made` counts.
std::string build_seeds(const std::string& seeds, const std::string& folder, unsigned& made);

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_OUTPUT_H_
