#include "harness/trace/result_line.h"

#include <nlohmann/json.hpp>

namespace twinwalk {
namespace {

using Json = nlohmann::ordered_json;

// Paths may hold any bytes; what is not UTF-8 becomes U+FFFD.
std::string one_line(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

std::string to_json(const ResultLine& r) {
  Json json{{"trace", r.trace},     {"op", r.op},           {"vcpu", r.vcpu},
            {"verb", r.verb},       {"subject", r.subject}, {"profile", r.profile},
            {"verdict", r.verdict}, {"class", r.cls},       {"field", r.field},
            {"got", r.got},         {"allowed", r.allowed}, {"rule", r.rule}};
  if (!r.baseline.empty()) json["baseline"] = r.baseline;
  return one_line(json);
}

std::string to_json(const RunSummary& s) {
  return one_line(Json{{"summary",
                        {{"traces", s.traces},
                         {"ops", s.ops},
                         {"checks", s.checks},
                         {"agree", s.agree},
                         {"diverge", s.diverge},
                         {"skip", s.skip},
                         {"unspecified", s.unspecified},
                         {"unicorn_checks", s.unicorn_checks}}}});
}

}  // namespace twinwalk
