#ifndef TWINWALK_REPORTS_PAGE_H_
#define TWINWALK_REPORTS_PAGE_H_

// The frame of a report: one HTML file that needs nothing else.

#include <string>
#include <string_view>
#include <vector>

namespace twinwalk::reports {

// `title` and `subtitle` are plain text; `body` is markup; `data` is JSON, embedded for other tools
// as <script type="application/json" id="data">.
std::string page(std::string_view title, std::string_view subtitle, std::string_view body,
                 std::string_view data);

// One figure of the row at the top; plain text.
std::string tile(std::string_view label, std::string_view value, std::string_view note = "");

// A table that the reader can filter by typing; `head` and each cell of `row` are markup.
class Table {
 public:
  // `name` is said above the filter; `numeric` has a digit 1 for each column of numbers ("0011").
  Table(std::string_view name, const std::vector<std::string>& head, std::string_view numeric);
  void row(const std::vector<std::string>& cells);
  // Plain rows beyond kMostRows are counted, not shown: a page has to open.
  static constexpr std::size_t kMostRows = 5000;
  std::string finish(bool filter) const;

 private:
  std::string name_, numeric_, head_, rows_;
  std::size_t count_ = 0;
};

// A word in the colour of its meaning, with a mark of its own so that colour is not needed.
std::string badge(std::string_view word);

}  // namespace twinwalk::reports

#endif  // TWINWALK_REPORTS_PAGE_H_
