#ifndef TWINWALK_HARNESS_BENCH_ROW_SET_H_
#define TWINWALK_HARNESS_BENCH_ROW_SET_H_

// The rows measured so far, and the ways in which a value is held against its limit. A value or a
// limit that is not a positive number is no measurement: the row does not hold, whatever its
// target.

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "harness/bench/rows.h"

namespace twinwalk::bench {

class RowSet {
 public:
  explicit RowSet(std::function<void(const Row&)> report) : report_(std::move(report)) {}

  // A limit itself.
  void limit(std::string_view row, double value, std::string_view unit);
  // Holds if value <= most * limit.
  void ratio(std::string_view row, double value, std::string_view unit, double limit, double most);
  // Holds if value <= most, and, unless `times` is 0, value <= times * limit.
  void at_most(std::string_view row, double value, std::string_view unit, double limit, double most,
               double times = 0);
  // Holds if value >= least * limit.
  void at_least(std::string_view row, double value, std::string_view unit, double limit,
                double least = 1);
  // A row whose workload diverged does not hold, whatever its time: adds a row that says how often.
  void agreed(std::string_view row, std::uint64_t divergences);

  // The row could not be measured at all.
  void missing(std::string_view row, std::string_view unit);

  double value_of(std::string_view row) const;  // 0 if it was not measured

 private:
  void add(Row row);
  std::function<void(const Row&)> report_;
  std::vector<Row> rows_;
};

void memory_rows(RowSet& rows);  // first: what others leave resident would count
void access_rows(RowSet& rows);
void two_dimension_rows(RowSet& rows);  // after access_rows, whose limit they use
void trace_rows(RowSet& rows);
// `program`: path of twinwalk-unicorn; empty: it was not built, and there are no rows.
void unicorn_rows(RowSet& rows, const std::string& program);
// Those of the fuzz targets that are there.
void worker_rows(RowSet& rows, const Programs& programs);
void scaling_rows(RowSet& rows, const Programs& programs);

}  // namespace twinwalk::bench

#endif  // TWINWALK_HARNESS_BENCH_ROW_SET_H_
