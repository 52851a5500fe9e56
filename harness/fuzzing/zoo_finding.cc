#include "harness/fuzzing/zoo_finding.h"

#include <cstdint>

#include "harness/fuzzing/atomic_file.h"
#include "harness/fuzzing/child.h"
#include "harness/trace/binary.h"
#include "harness/trace/load.h"
#include "harness/trace/print.h"

namespace twinwalk::fuzz {
namespace {

constexpr std::size_t kMaxText = 16 << 20;
constexpr double kMinimiseSeconds = 120, kExplainSeconds = 60;

}  // namespace

std::string rule_in_explanation(const std::string& text) {
  const std::size_t at = text.find("DIVERGENCE ");
  if (at == std::string::npos) return {};
  static constexpr std::string_view kRule = "\n      rule ";
  const std::size_t rule = text.find(kRule, at);
  if (rule == std::string::npos) return {};
  const std::size_t from = text.find_first_not_of(' ', rule + kRule.size());
  return text.substr(from, text.find(':', from) - from);
}

ZooFinding look_into(const std::string& program, const Config& config, const std::string& trace,
                     const std::string& stem) {
  ZooFinding out;
  std::string bytes;
  Trace found;
  if (!read_file(trace, kMaxText, bytes)) {
    out.error = "cannot read " + trace;
    return out;
  }
  decode({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}, found);
  config.constrain(found);
  const std::string smallest = stem + ".walk";
  out.error = write_atomically(smallest, print(found));
  if (!out.error.empty()) return out;

  Command minimise_it;
  minimise_it.words = {program, "minimise", smallest, "-o", smallest};
  minimise_it.log = stem + ".log";
  if (!run_command(minimise_it, kMinimiseSeconds)) {
    out.error = "the seeded program does not show it; see " + minimise_it.log;
    return out;
  }
  const ParseResult read = load_trace(smallest);
  if (!read) {
    out.error = to_text(*read.error);
    return out;
  }
  out.operations = read.trace.ops.size();

  Command explain;
  explain.words = {program, "explain", smallest};
  explain.log = stem + ".txt";
  std::string text;
  if (run_command(explain, kExplainSeconds) && read_file(explain.log, kMaxText, text))
    out.rule = rule_in_explanation(text);
  if (out.rule.empty()) out.error = "no rule is named in " + explain.log;
  return out;
}

}  // namespace twinwalk::fuzz
