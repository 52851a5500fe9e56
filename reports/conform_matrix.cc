#include "reports/conform_matrix.h"

#include <algorithm>
#include <cstddef>

namespace twinwalk::reports {
namespace {

// The one of `all` that `is` holds for; else a new one at the end, made from `fresh`.
template <class T, class Is>
T& one_of(std::vector<T>& all, Is is, T fresh) {
  const auto found = std::find_if(all.begin(), all.end(), is);
  return found != all.end() ? *found : all.emplace_back(std::move(fresh));
}

std::size_t column_of(std::vector<std::string>& modes, const std::string& mode) {
  const std::string& at = one_of(
      modes, [&](const std::string& m) { return m == mode; }, mode);
  return static_cast<std::size_t>(&at - modes.data());
}

}  // namespace

std::vector<ConformMatrix> conform_matrices(const std::vector<ConformLine>& lines) {
  std::vector<ConformMatrix> all;
  for (const ConformLine& line : lines) {
    ConformMatrix& matrix = one_of(
        all,
        [&](const ConformMatrix& m) { return m.subject == line.subject && m.host == line.host; },
        {line.subject, line.host, {}, {}});
    ConformMatrix::Row& row =
        one_of(matrix.rows, [&](const ConformMatrix::Row& r) { return r.feature == line.feature; },
               {line.feature, {}});
    const std::size_t column = column_of(matrix.modes, line.mode);
    if (row.cells.size() <= column) row.cells.resize(column + 1);
    row.cells[column] = &line;
  }
  for (ConformMatrix& matrix : all)
    for (ConformMatrix::Row& row : matrix.rows) row.cells.resize(matrix.modes.size());
  return all;
}

}  // namespace twinwalk::reports
