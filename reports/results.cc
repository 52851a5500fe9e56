#include "reports/results.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace twinwalk::reports {
namespace {

using Json = nlohmann::json;

std::string text_of(const Json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return "";
  return found->is_string() ? found->get<std::string>() : found->dump();
}

// A number, or 0 where it is absent or null.
template <typename Number>
Number number_of(const Json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return 0;
  if (!found->is_number()) throw std::invalid_argument(fmt::format("`{}` is not a number", key));
  const bool negative =
      found->is_number_integer() && !found->is_number_unsigned() && found->get<std::int64_t>() < 0;
  if constexpr (std::is_unsigned_v<Number>) {
    if (negative) throw std::invalid_argument(fmt::format("`{}` is negative", key));
    if (found->is_number_float() && !(found->get<double>() >= 0 && found->get<double>() < 1e18)) {
      throw std::invalid_argument(fmt::format("`{}` is out of range", key));
    }
  }
  return found->get<Number>();
}

bool flag_of(const Json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return false;
  if (!found->is_boolean())
    throw std::invalid_argument(fmt::format("`{}` is not true or false", key));
  return found->get<bool>();
}

ResultLine run_line(const Json& j) {
  ResultLine r;
  r.trace = text_of(j, "trace");
  r.op = number_of<std::uint32_t>(j, "op");
  r.vcpu = number_of<unsigned>(j, "vcpu");
  r.verb = text_of(j, "verb");
  r.subject = text_of(j, "subject");
  r.profile = text_of(j, "profile");
  r.verdict = text_of(j, "verdict");
  r.cls = text_of(j, "class");
  r.field = text_of(j, "field");
  r.got = text_of(j, "got");
  r.allowed = text_of(j, "allowed");
  r.rule = text_of(j, "rule");
  return r;
}

RunSummary summary(const Json& j) {
  const auto n = [&](const char* key) { return number_of<std::uint64_t>(j, key); };
  return {n("traces"),  n("ops"),  n("checks"),      n("agree"),
          n("diverge"), n("skip"), n("unspecified"), n("unicorn_checks")};
}

ConformLine conform_line(const Json& j) {
  return {text_of(j, "feature"),
          text_of(j, "subject"),
          text_of(j, "host"),
          text_of(j, "mode"),
          text_of(j, "result"),
          text_of(j, "why"),
          number_of<std::uint64_t>(j, "checks")};
}

ZooLine zoo_line(const Json& j) {
  return {text_of(j, "bug"),
          text_of(j, "by"),
          flag_of(j, "reached"),
          flag_of(j, "triggered"),
          flag_of(j, "detected"),
          number_of<double>(j, "seconds"),
          number_of<std::uint64_t>(j, "execs")};
}

BenchLine bench_line(const Json& j) {
  BenchLine b{text_of(j, "row"),
              text_of(j, "unit"),
              text_of(j, "target"),
              number_of<double>(j, "value"),
              number_of<double>(j, "limit"),
              number_of<double>(j, "ratio"),
              {}};
  if (j.contains("holds") && !j["holds"].is_null()) b.holds = flag_of(j, "holds");
  return b;
}

FuzzLine fuzz_line(const Json& j) {
  const auto n = [&](const char* key) { return number_of<std::uint64_t>(j, key); };
  return {text_of(j, "engine"),
          number_of<double>(j, "seconds"),
          number_of<double>(j, "execs_per_second"),
          n("execs"),
          n("ops"),
          n("checks"),
          n("unicorn_checks"),
          n("edges"),
          n("mmu_states"),
          n("divergences"),
          n("new_divergences")};
}

// Each kind of line is known by keys that only it has.
bool add_line(const Json& j, Results& out) {
  const auto has = [&](const char* key) { return j.contains(key); };
  if (has("summary") && j["summary"].is_object())
    out.summaries.push_back(summary(j["summary"]));
  else if (has("trace") && has("verdict"))
    out.run.push_back(run_line(j));
  else if (has("feature") && has("result"))
    out.conform.push_back(conform_line(j));
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
    "a result line of run, conform, zoo, bench, or a summary of fuzz";

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
