#include "harness/bench/row_set.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

namespace twinwalk::bench {

std::string to_json(const Row& row) {
  return nlohmann::ordered_json{{"row", row.row},     {"value", row.value}, {"unit", row.unit},
                                {"limit", row.limit}, {"ratio", row.ratio}, {"target", row.target},
                                {"holds", row.holds}}
      .dump();
}

void RowSet::add(Row row) {
  row.ratio = row.limit > 0 ? row.value / row.limit : 0;
  rows_.push_back(std::move(row));
  report_(rows_.back());
}

void RowSet::limit(std::string_view row, double value, std::string_view unit) {
  add({std::string(row), value, std::string(unit), value, 1, "the limit of the walkers", true});
}

void RowSet::ratio(std::string_view row, double value, std::string_view unit, double limit,
                   double most) {
  add({std::string(row), value, std::string(unit), limit, 0, fmt::format("<= {:g} x limit", most),
       value <= most * limit});
}

void RowSet::at_most(std::string_view row, double value, std::string_view unit, double limit,
                     double most, double times) {
  std::string target = fmt::format("<= {:g} {}", most, unit);
  if (times > 0) target += fmt::format(", <= {:g} x limit", times);
  add({std::string(row), value, std::string(unit), limit, 0, std::move(target),
       value <= most && (times <= 0 || value <= times * limit)});
}

void RowSet::at_least(std::string_view row, double value, std::string_view unit, double limit,
                      double least) {
  add({std::string(row), value, std::string(unit), limit, 0, fmt::format(">= {:g} x limit", least),
       value >= least * limit});
}

void RowSet::agreed(std::string_view row, std::uint64_t divergences) {
  if (divergences == 0) return;
  add({fmt::format("{}-divergences", row), static_cast<double>(divergences), "", 0, 0, "0", false});
}

double RowSet::value_of(std::string_view row) const {
  const auto at =
      std::find_if(rows_.begin(), rows_.end(), [&](const Row& r) { return r.row == row; });
  return at == rows_.end() ? 0 : at->value;
}

void measure_rows(const std::string& unicorn, const std::function<void(const Row&)>& report) {
  RowSet rows(report);
  memory_rows(rows);
  access_rows(rows);
  trace_rows(rows);
  unicorn_rows(rows, unicorn);
}

}  // namespace twinwalk::bench
