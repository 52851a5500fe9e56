#include "harness/cli/bench_verb.h"

#include "harness/bench/rows.h"
#include "harness/cli/output.h"
#include "harness/cli/subjects.h"

namespace twinwalk::cli {

int bench(bool json) {
  if (!json) {
    print("{:<28} {:>12} {:<9} {:>12} {:>7}  {:<28} holds\n", "row", "value", "unit", "limit",
          "ratio", "target");
  }
  bench::measure_rows(sibling_program("twinwalk-unicorn"), [&](const bench::Row& row) {
    if (json) {
      print("{}\n", bench::to_json(row));
    } else {
      print("{:<28} {:>12.4g} {:<9} {:>12.4g} {:>7.3g}  {:<28} {}\n", row.row, row.value, row.unit,
            row.limit, row.ratio, row.target,
            paint(row.holds ? Tone::kGood : Tone::kBad, row.holds ? "yes" : "no"));
    }
    flush_out();
  });
  return kExitGood;
}

}  // namespace twinwalk::cli
