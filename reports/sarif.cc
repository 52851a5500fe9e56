#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>

#include "reports/ci_formats.h"

namespace twinwalk::reports {
namespace {

using Json = nlohmann::ordered_json;

Json location(const std::string& uri, std::size_t line) {
  Json physical{{"artifactLocation", {{"uri", uri}}}};
  if (line) physical["region"] = {{"startLine", line}};
  return Json::array({Json{{"physicalLocation", std::move(physical)}}});
}

std::string document(const std::map<std::string, std::string>& rules, Json results,
                     std::string_view version) {
  Json list = Json::array();
  for (const auto& [id, says] : rules)
    list.push_back({{"id", id}, {"shortDescription", {{"text", says}}}});
  const Json driver{{"name", "twinwalk"}, {"version", version}, {"rules", std::move(list)}};
  const Json json{
      {"$schema", "https://json.schemastore.org/sarif-2.1.0.json"},
      {"version", "2.1.0"},
      {"runs",
       Json::array({Json{{"tool", {{"driver", driver}}}, {"results", std::move(results)}}})}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string says(const std::string& cls) { return fmt::format("Divergence of class {}", cls); }

}  // namespace

std::string to_sarif(const FuzzReport& r, std::string_view version) {
  std::map<std::string, std::string> rules;
  Json results = Json::array();
  for (const Finding& f : r.findings) {
    if (!f.is_new) continue;
    rules[f.cls] = says(f.cls);
    results.push_back({{"ruleId", f.cls},
                       {"level", "error"},
                       {"message",
                        {{"text", fmt::format("got {}; allowed {}; {} ({})", f.got, f.allowed,
                                              f.rule_says, f.citation)}}},
                       {"locations", location("findings/" + f.name + ".walk", f.trace_line)},
                       {"partialFingerprints", {{"finding/v1", f.name}}}});
  }
  return document(rules, std::move(results), version);
}

std::string to_sarif(const Results& r, std::string_view version) {
  std::map<std::string, std::string> rules;
  Json results = Json::array();
  for (const ResultLine& l : r.run) {
    if (l.verdict != "diverge") continue;
    rules[l.cls] = says(l.cls);
    const bool old = l.baseline == "unchanged";
    Json result{{"ruleId", l.cls},
                {"level", old ? "note" : "error"},
                {"message",
                 {{"text", fmt::format("operation {} ({}): got {}; allowed {}; rule {}", l.op,
                                       l.verb, l.got, l.allowed, l.rule)}}},
                {"locations", location(l.trace, 0)}};
    if (!l.baseline.empty()) result["baselineState"] = l.baseline;
    results.push_back(std::move(result));
  }
  return document(rules, std::move(results), version);
}

}  // namespace twinwalk::reports
