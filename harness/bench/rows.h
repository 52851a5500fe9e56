#ifndef TWINWALK_HARNESS_BENCH_ROWS_H_
#define TWINWALK_HARNESS_BENCH_ROWS_H_

// The rows of the benchmark, each with the limit that it is held against, measured in the same run.

#include <functional>
#include <string>

namespace twinwalk::bench {

struct Row {
  std::string row;  // short and stable
  double value = 0;
  std::string unit;
  double limit = 0;  // in the same unit, from this run
  double ratio = 0;  // value / limit
  std::string target;
  bool holds = false;
  bool measured =
      false;  // false: value or limit is not a positive number, and the row says nothing
};

std::string to_json(const Row& row);  // one line, no newline; keys in the order of the schema

// Paths of the programs that rows are measured with; one that is empty was not built, and has no
// rows.
struct Programs {
  std::string unicorn;    // twinwalk-unicorn
  std::string worker;     // shadow_fuzzer: counts the core's edges
  std::string sanitized;  // the same with ASan and UBSan
  std::string seeds;      // folder of the traces that fuzzing begins with; may be empty
};

// Measures every row and reports each as soon as it is known.
void measure_rows(const Programs& programs, const std::function<void(const Row&)>& report);

}  // namespace twinwalk::bench

#endif  // TWINWALK_HARNESS_BENCH_ROWS_H_
