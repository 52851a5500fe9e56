#include "harness/fuzzing/zoo_result.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

namespace twinwalk::fuzz {
namespace {

const char* how_far(const Trial& t) {
  return t.triggered ? "triggered" : t.reached ? "reached" : "not reached";
}

nlohmann::ordered_json or_null(const std::optional<double>& seconds) {
  return seconds ? nlohmann::ordered_json(*seconds) : nlohmann::ordered_json(nullptr);
}

std::string story_of_control(const ZooResult& r) {
  const Trial& t = r.trial;
  if (t.detected()) {
    return fmt::format("FALSE ALARM {} after {:.1f} s, {} execs: {}", name_of(t.divergence),
                       t.seconds, t.execs, t.trace);
  }
  return fmt::format("neutral, {} and not detected in {:.0f} s, {} execs", how_far(t), t.seconds,
                     t.execs);
}

}  // namespace

std::string detector_of(DivergenceClass divergence) {
  switch (divergence) {
    case DivergenceClass::kAuditRmap:
    case DivergenceClass::kAuditParent:
    case DivergenceClass::kAuditUnsync:
    case DivergenceClass::kAuditHash:
    case DivergenceClass::kAuditCount:
    case DivergenceClass::kAuditRole:
    case DivergenceClass::kAuditContent:
    case DivergenceClass::kAuditReserved:
    case DivergenceClass::kAuditWritable:
    case DivergenceClass::kAuditNotifier:
    case DivergenceClass::kAuditDirty:
    case DivergenceClass::kAuditLeak:
    case DivergenceClass::kTableFreedInUse:
      return "audit";
    case DivergenceClass::kSanitizer:
    case DivergenceClass::kTrap:
    case DivergenceClass::kEscape:
      return "sanitizer";
    case DivergenceClass::kLiveness:
    case DivergenceClass::kHang:
      return "liveness";
    case DivergenceClass::kNone:
    case DivergenceClass::kCount:
      return "";
    default:
      return "translation";
  }
}

bool is_good(const ZooResult& r) {
  if (r.control) return !r.trial.detected() && r.trial.triggered;
  return r.trial.detected() && r.operations != 0 && r.operations < kMostOperations &&
         !r.rule.empty();
}

std::string story_of(const ZooResult& r) {
  const Trial& t = r.trial;
  if (r.control) return story_of_control(r);
  if (!t.detected())
    return fmt::format("not detected in {:.0f} s, {} execs ({})", t.seconds, t.execs, how_far(t));
  return fmt::format("detected by {} ({}) after {:.1f} s, {} execs; {} operations, rule {}{}",
                     detector_of(t.divergence), name_of(t.divergence), t.seconds, t.execs,
                     r.operations, r.rule.empty() ? "none" : r.rule,
                     is_good(r) ? "" : ": NOT SMALL AND EXPLAINED");
}

std::string to_json(const ZooResult& r) {
  const Trial& t = r.trial;
  nlohmann::ordered_json j;
  j["bug"] = r.bug;
  j["control"] = r.control;
  j["repeat"] = r.repeat;
  j["reached"] = t.reached;
  j["triggered"] = t.triggered;
  j["detected"] = t.detected();
  j["by"] = detector_of(t.divergence);
  j["class"] = t.detected() ? name_of(t.divergence) : "";
  j["seconds"] = t.seconds;
  j["seconds_to_reach"] = or_null(t.to_reach);
  j["seconds_to_trigger"] = or_null(t.to_trigger);
  j["execs"] = t.execs;
  j["operations"] = r.operations;
  j["rule"] = r.rule;
  return j.dump();
}

}  // namespace twinwalk::fuzz
