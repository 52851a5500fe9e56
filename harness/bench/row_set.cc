#include "harness/bench/row_set.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

namespace twinwalk::bench {
namespace {

bool is_figure(double x) { return std::isfinite(x) && x > 0; }

}  // namespace

std::string to_json(const Row& row) {
  return nlohmann::ordered_json{{"row", row.row},     {"value", row.value}, {"unit", row.unit},
                                {"limit", row.limit}, {"ratio", row.ratio}, {"target", row.target},
                                {"holds", row.holds}}
      .dump();
}

void RowSet::add(Row row) {
  row.measured = is_figure(row.value) && is_figure(row.limit);
  row.ratio = row.measured ? row.value / row.limit : 0;
  row.holds = row.holds && row.measured;
  rows_.push_back(std::move(row));
  report_(rows_.back());
}

void RowSet::limit(std::string_view row, double value, std::string_view unit) {
  add({.row = std::string(row),
       .value = value,
       .unit = std::string(unit),
       .limit = value,
       .target = "the limit of the walkers",
       .holds = true});
}

void RowSet::ratio(std::string_view row, double value, std::string_view unit, double limit,
                   double most) {
  add({.row = std::string(row),
       .value = value,
       .unit = std::string(unit),
       .limit = limit,
       .target = fmt::format("<= {:g} x limit", most),
       .holds = value <= most * limit});
}

void RowSet::at_most(std::string_view row, double value, std::string_view unit, double limit,
                     double most, double times) {
  std::string target = fmt::format("<= {:g} {}", most, unit);
  if (times > 0) target += fmt::format(", <= {:g} x limit", times);
  add({.row = std::string(row),
       .value = value,
       .unit = std::string(unit),
       .limit = limit,
       .target = std::move(target),
       .holds = value <= most && (times <= 0 || value <= times * limit)});
}

void RowSet::at_least(std::string_view row, double value, std::string_view unit, double limit,
                      double least) {
  add({.row = std::string(row),
       .value = value,
       .unit = std::string(unit),
       .limit = limit,
       .target = fmt::format(">= {:g} x limit", least),
       .holds = value >= least * limit});
}

void RowSet::agreed(std::string_view row, std::uint64_t divergences) {
  if (divergences == 0) return;
  add({.row = fmt::format("{}-divergences", row),
       .value = static_cast<double>(divergences),
       .target = "0"});
}

void RowSet::missing(std::string_view row, std::string_view unit) {
  add({.row = std::string(row), .unit = std::string(unit), .target = "to be measured"});
}

double RowSet::value_of(std::string_view row) const {
  const auto at =
      std::find_if(rows_.begin(), rows_.end(), [&](const Row& r) { return r.row == row; });
  return at == rows_.end() ? 0 : at->value;
}

void measure_rows(const Programs& programs, const std::function<void(const Row&)>& report) {
  RowSet rows(report);
  memory_rows(rows);
  access_rows(rows);
  two_dimension_rows(rows);
  trace_rows(rows);
  worker_rows(rows, programs);
  scaling_rows(rows, programs);
  unicorn_rows(rows, programs.unicorn);
}

}  // namespace twinwalk::bench
