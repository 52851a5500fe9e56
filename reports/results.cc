#include "reports/results.h"

#include <fmt/format.h>

#include "harness/trace/json_field.h"

namespace twinwalk::reports {
namespace {

using json_field::flag_or_false;
using json_field::Json;
using json_field::number_or_zero;
using json_field::text_or_empty;

std::optional<double> number_if_any(const Json& j, const char* key) {
  if (!json_field::find(j, key)) return std::nullopt;
  return number_or_zero<double>(j, key);
}

ResultLine run_line(const Json& j) {
  ResultLine r;
  r.trace = text_or_empty(j, "trace");
  r.op = number_or_zero<std::uint32_t>(j, "op");
  r.vcpu = number_or_zero<unsigned>(j, "vcpu");
  r.verb = text_or_empty(j, "verb");
  r.subject = text_or_empty(j, "subject");
  r.profile = text_or_empty(j, "profile");
  r.verdict = text_or_empty(j, "verdict");
  r.cls = text_or_empty(j, "class");
  r.field = text_or_empty(j, "field");
  r.got = text_or_empty(j, "got");
  r.allowed = text_or_empty(j, "allowed");
  r.rule = text_or_empty(j, "rule");
  r.baseline = text_or_empty(j, "baseline");
  return r;
}

RunSummary summary(const Json& j) {
  const auto n = [&](const char* key) { return number_or_zero<std::uint64_t>(j, key); };
  return {n("traces"),  n("ops"),  n("checks"),      n("agree"),
          n("diverge"), n("skip"), n("unspecified"), n("unicorn_checks")};
}

ConformLine conform_line(const Json& j) {
  return {text_or_empty(j, "feature"),
          text_or_empty(j, "subject"),
          text_or_empty(j, "host"),
          text_or_empty(j, "mode"),
          text_or_empty(j, "result"),
          text_or_empty(j, "why"),
          number_or_zero<std::uint64_t>(j, "checks")};
}

ZooLine zoo_line(const Json& j) {
  return {text_or_empty(j, "bug"),
          text_or_empty(j, "by"),
          flag_or_false(j, "reached"),
          flag_or_false(j, "triggered"),
          flag_or_false(j, "detected"),
          number_or_zero<double>(j, "seconds"),
          number_or_zero<std::uint64_t>(j, "execs"),
          number_if_any(j, "seconds_to_reach"),
          number_if_any(j, "seconds_to_trigger"),
          flag_or_false(j, "control"),
          number_or_zero<std::uint64_t>(j, "repeat"),
          number_or_zero<std::uint64_t>(j, "operations"),
          text_or_empty(j, "class"),
          text_or_empty(j, "rule")};
}

MutantLine mutant_line(const Json& j) {
  const auto t = [&](const char* key) { return text_or_empty(j, key); };
  return {t("mutant"), t("was"), t("now"), t("fate"), t("by"), t("how")};
}

MutationScore mutation_score(const Json& j) {
  const auto n = [&](const char* key) { return number_or_zero<std::uint64_t>(j, key); };
  return {text_or_empty(j, "side"),
          n("killed"),
          n("survived"),
          n("equivalent"),
          n("invalid"),
          number_or_zero<double>(j, "score"),
          number_or_zero<double>(j, "bound")};
}

BenchLine bench_line(const Json& j) {
  BenchLine b{text_or_empty(j, "row"),
              text_or_empty(j, "unit"),
              text_or_empty(j, "target"),
              number_or_zero<double>(j, "value"),
              number_or_zero<double>(j, "limit"),
              number_or_zero<double>(j, "ratio"),
              {}};
  if (json_field::find(j, "holds")) b.holds = flag_or_false(j, "holds");
  return b;
}

FuzzLine fuzz_line(const Json& j) {
  const auto n = [&](const char* key) { return number_or_zero<std::uint64_t>(j, key); };
  return {text_or_empty(j, "engine"),
          number_or_zero<double>(j, "seconds"),
          number_or_zero<double>(j, "execs_per_second"),
          n("execs"),
          n("ops"),
          n("checks"),
          n("unicorn_checks"),
          n("edges"),
          n("mmu_states"),
          n("divergences"),
          n("new_divergences")};
}

FindingLine finding_line(const Json& j) {
  const auto t = [&](const char* key) { return text_or_empty(j, key); };
  return {t("finding"),
          t("class"),
          t("subject"),
          t("host"),
          t("mode"),
          t("feature"),
          t("case"),
          t("got"),
          t("allowed"),
          t("rule"),
          number_or_zero<std::uint64_t>(j, "reproduced"),
          number_or_zero<std::uint64_t>(j, "replays")};
}

// Each kind of line is known by keys that only it has.
bool add_line(const Json& j, Results& out) {
  const auto has = [&](const char* key) { return j.contains(key); };
  if (has("summary") && j["summary"].is_object() && j["summary"].contains("score"))
    out.scores.push_back(mutation_score(j["summary"]));
  else if (has("mutant") && has("fate"))
    out.mutants.push_back(mutant_line(j));
  else if (has("summary") && j["summary"].is_object())
    out.summaries.push_back(summary(j["summary"]));
  else if (has("trace") && has("verdict"))
    out.run.push_back(run_line(j));
  else if (has("feature") && has("result"))
    out.conform.push_back(conform_line(j));
  else if (has("stamp"))
    out.stamps.push_back(
        {text_or_empty(j, "subject"), text_or_empty(j, "host"), text_or_empty(j, "stamp")});
  else if (has("finding") && has("class"))
    out.findings.push_back(finding_line(j));
  else if (has("bug") && has("detected"))
    out.zoo.push_back(zoo_line(j));
  else if (has("row") && has("value"))
    out.bench.push_back(bench_line(j));
  else if (has("execs") && has("divergences"))
    out.fuzz.push_back(fuzz_line(j));
  else
    return false;
  return true;
}

constexpr std::string_view kKinds =
    "a result line of run, conform, zoo, mutate, bench, or a summary of fuzz";

std::optional<std::string> read_one(std::string_view text, std::string_view where, Results& out) {
  const Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded())
    return fmt::format("{}: found what is not JSON; allowed: {}", where, kKinds);
  if (!json.is_object())
    return fmt::format("{}: found JSON that is not an object; allowed: {}", where, kKinds);
  try {
    if (add_line(json, out)) return std::nullopt;
  } catch (const std::exception& e) {
    return fmt::format("{}: {}", where, e.what());
  }
  return fmt::format("{}: found an object of another kind; allowed: {}", where, kKinds);
}

}  // namespace

std::optional<std::string> read_results(std::string_view text, std::string_view file,
                                        Results& out) {
  // A whole file that is one object, over several lines or one.
  if (const Json whole = Json::parse(text, nullptr, false); whole.is_object()) {
    return read_one(text, fmt::format("{}:1", file), out);
  }
  std::size_t line = 0;
  bool any = false;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    const std::string_view one = text.substr(0, end);
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    ++line;
    if (one.find_first_not_of(" \t\r") == one.npos) continue;
    any = true;
    if (auto error = read_one(one, fmt::format("{}:{}", file, line), out)) return error;
  }
  if (!any) return fmt::format("{}: found no result line; allowed: {}", file, kKinds);
  return std::nullopt;
}

}  // namespace twinwalk::reports
