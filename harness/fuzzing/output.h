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

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_OUTPUT_H_
