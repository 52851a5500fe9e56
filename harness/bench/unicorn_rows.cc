// Rows about Unicorn: measured by the process that has it, bare and through the client by turns.

#include <fmt/format.h>

#include <array>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "harness/bench/row_set.h"

namespace twinwalk::bench {
namespace {

std::string output_of(const std::string& command) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::string text;
  if (pipe == nullptr) return text;
  std::array<char, 4096> part{};
  for (std::size_t got = 0; (got = std::fread(part.data(), 1, part.size(), pipe.get())) != 0;) {
    text.append(part.data(), got);
  }
  return text;
}

}  // namespace

void unicorn_rows(RowSet& rows, const std::string& program) {
  if (program.empty()) return;
  const auto json =
      nlohmann::json::parse(output_of(fmt::format("'{}' --bench", program)), nullptr, false);
  if (!json.is_object() || !json.contains("rows")) {
    rows.missing("unicorn-access", "ns");
    return;
  }
  // One row over all kinds of access: the mean, as the program weighs them.
  double bare = 0, harness = 0;
  for (const auto& row : json["rows"]) {
    bare += row.value("bare_ns", 0.0);
    harness += row.value("harness_ns", 0.0);
  }
  const auto kinds = static_cast<double>(json["rows"].size());
  rows.ratio("unicorn-access", harness / kinds, "ns", bare / kinds, 1.1);
}

}  // namespace twinwalk::bench
