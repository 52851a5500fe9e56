#include "harness/cli/bench_verb.h"

#include "harness/bench/rows.h"
#include "harness/cli/output.h"
#include "harness/cli/subjects.h"
#include "harness/fuzzing/programs.h"

namespace twinwalk::cli {

int bench(bool json) {
  if (!json) {
    print("{:<28} {:>12} {:<9} {:>12} {:>7}  {:<28} holds\n", "row", "value", "unit", "limit",
          "ratio", "target");
  }
  const fuzz::Programs found = fuzz::find_programs();
  const bench::Programs programs{sibling_program("twinwalk-unicorn"), found.worker, found.sanitized,
                                 found.corpus.empty() ? "" : found.corpus + "/seed"};
  const auto note = [](const std::string& program, const char* name) {
    if (program.empty()) fmt::print(stderr, "twinwalk: bench: no rows of {}: not built\n", name);
  };
  note(programs.unicorn, "twinwalk-unicorn");
  note(programs.worker, "shadow_fuzzer");
  note(programs.sanitized, "shadow_fuzzer with ASan and UBSan");
  bool all_measured = true;
  bench::measure_rows(programs, [&](const bench::Row& row) {
    if (json) {
      print("{}\n", bench::to_json(row));
    } else {
      print("{:<28} {:>12.4g} {:<9} {:>12.4g} {:>7.3g}  {:<28} {}\n", row.row, row.value, row.unit,
            row.limit, row.ratio, row.target,
            paint(row.holds ? Tone::kGood : Tone::kBad, row.holds ? "yes" : "no"));
    }
    flush_out();
    if (row.measured) return;
    all_measured = false;
    fmt::print(stderr, "twinwalk: bench: '{}' is no measurement: value {:g}, limit {:g}\n", row.row,
               row.value, row.limit);
  });
  return all_measured ? kExitGood : kExitFound;
}

}  // namespace twinwalk::cli
