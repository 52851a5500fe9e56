#include "reports/json.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

namespace twinwalk::reports {
namespace {

using Json = nlohmann::ordered_json;

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

std::string dumped(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json nested_json(const NestedLines& nested) {
  return {{"title", nested.title}, {"lines", nested.lines}};
}

Json walk_json(const Walk& walk) {
  Json levels = Json::array();
  for (const WalkLevel& l : walk.levels) {
    Json level = {{"level", l.level},
                  {"table", fmt::format("{:#x}", l.table_gpa)},
                  {"index", l.index},
                  {"entry", fmt::format("{:#x}", l.entry)},
                  {"note", l.note}};
    if (!l.nested.title.empty()) level["nested"] = nested_json(l.nested);
    levels.push_back(std::move(level));
  }
  Json json = {{"title", walk.title}, {"outcome", walk.outcome}, {"levels", std::move(levels)}};
  if (!walk.last.title.empty()) json["last"] = nested_json(walk.last);
  return json;
}

Json finding_json(const Finding& f) {
  Json walks = Json::array();
  for (const Walk& w : f.walks) walks.push_back(walk_json(w));
  return {{"name", f.name},
          {"class", f.cls},
          {"field", f.field},
          {"got", f.got},
          {"allowed", f.allowed},
          {"rule", f.rule},
          {"citation", f.citation},
          {"subject", f.subject},
          {"profile", f.profile},
          {"command", f.command},
          {"trace", f.trace_text},
          {"line", f.trace_line},
          {"walks", std::move(walks)},
          {"replays", f.replays},
          {"reproduced", f.reproduced},
          {"hits", f.hits},
          {"seconds", f.seconds},
          {"new", f.is_new}};
}

}  // namespace

std::string to_json(const FuzzReport& r) {
  Json samples = Json::array(), findings = Json::array(), known = Json::array(),
       states = Json::array();
  for (const Sample& s : r.samples) samples.push_back({s.seconds, s.execs, s.edges});
  for (const Finding& f : r.findings) findings.push_back(finding_json(f));
  for (const StateMap& s : r.states) {
    states.push_back({{"title", s.title},
                      {"roles", s.roles},
                      {"levels", s.levels},
                      {"operations", s.operations},
                      {"counts", s.counts}});
  }
  for (const KnownDeviation& k : r.known) {
    known.push_back({{"id", k.id}, {"subject", k.subject}, {"says", k.says}, {"hits", k.hits}});
  }
  return dumped({{"config", r.title},
                 {"engine", r.engine},
                 {"subject", r.subject},
                 {"unicorn", r.unicorn_version},
                 {"command", r.command},
                 {"started", r.started},
                 {"seconds", r.seconds},
                 {"workers", r.workers},
                 {"execs", r.execs},
                 {"ops", r.ops},
                 {"checks", r.checks},
                 {"unicorn_checks", r.unicorn_checks},
                 {"edges", r.edges},
                 {"mmu_states", r.mmu_states},
                 {"divergences", r.divergences},
                 {"new_divergences", r.new_divergences},
                 {"samples", std::move(samples)},
                 {"states", std::move(states)},
                 {"findings", std::move(findings)},
                 {"known", std::move(known)},
                 {"remarks", r.remarks}});
}

std::string to_json(const Results& r) {
  Json run = Json::array(), conform = Json::array(), zoo = Json::array(), bench = Json::array();
  for (const ResultLine& l : r.run) run.push_back(Json::parse(twinwalk::to_json(l)));
  for (const ConformLine& c : r.conform) {
    conform.push_back({{"feature", c.feature},
                       {"subject", c.subject},
                       {"host", c.host},
                       {"mode", c.mode},
                       {"result", c.result},
                       {"checks", c.checks},
                       {"why", c.why}});
  }
  for (const ZooLine& z : r.zoo) {
    zoo.push_back({{"bug", z.bug},
                   {"reached", z.reached},
                   {"triggered", z.triggered},
                   {"detected", z.detected},
                   {"by", z.by},
                   {"seconds", z.seconds},
                   {"execs", z.execs},
                   {"seconds_to_reach", or_null(z.seconds_to_reach)},
                   {"seconds_to_trigger", or_null(z.seconds_to_trigger)},
                   {"control", z.control},
                   {"repeat", z.repeat},
                   {"operations", z.operations},
                   {"class", z.cls},
                   {"rule", z.rule}});
  }
  Json mutants = Json::array(), scores = Json::array();
  for (const MutantLine& m : r.mutants) {
    mutants.push_back({{"mutant", m.mutant},
                       {"was", m.was},
                       {"now", m.now},
                       {"fate", m.fate},
                       {"by", m.by},
                       {"how", m.how}});
  }
  for (const MutationScore& s : r.scores) {
    scores.push_back({{"side", s.side},
                      {"killed", s.killed},
                      {"survived", s.survived},
                      {"equivalent", s.equivalent},
                      {"invalid", s.invalid},
                      {"score", s.score},
                      {"bound", s.bound}});
  }
  for (const BenchLine& b : r.bench) {
    bench.push_back({{"row", b.row},
                     {"value", b.value},
                     {"unit", b.unit},
                     {"limit", b.limit},
                     {"ratio", b.ratio},
                     {"target", b.target},
                     {"holds", or_null(b.holds)}});
  }
  return dumped({{"run", std::move(run)},
                 {"conform", std::move(conform)},
                 {"zoo", std::move(zoo)},
                 {"mutants", std::move(mutants)},
                 {"mutation_scores", std::move(scores)},
                 {"bench", std::move(bench)}});
}

}  // namespace twinwalk::reports
