#include "harness/fuzzing/summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace twinwalk::fuzz {
namespace {

std::string short_number(double n) {
  if (n >= 1e9) return fmt::format("{:.1f}G", n / 1e9);
  if (n >= 1e6) return fmt::format("{:.1f}M", n / 1e6);
  if (n >= 1e4) return fmt::format("{:.0f}k", n / 1e3);
  return fmt::format("{:.0f}", n);
}

double speed(const Moment& total) {
  return total.seconds > 0 ? static_cast<double>(total.execs) / total.seconds : 0;
}

}  // namespace

std::string name_of(Engine engine) {
  constexpr const char* kNames[] = {"libfuzzer", "afl", "batches"};
  return kNames[static_cast<unsigned>(engine)];
}

std::string to_json(const RunRecord& run) {
  nlohmann::ordered_json j;
  j["execs"] = run.total.execs;
  j["execs_per_second"] = static_cast<std::uint64_t>(speed(run.total));
  j["ops"] = run.total.ops;
  j["checks"] = run.total.checks;
  j["unicorn_checks"] = run.total.unicorn_checks;
  j["edges"] = run.total.edges;
  j["mmu_states"] = run.total.mmu_states;
  j["divergences"] = run.total.divergences;
  j["new_divergences"] = run.total.new_divergences;
  j["seconds"] = run.total.seconds;
  j["engine"] = name_of(run.options.engine);
  if (run.fleet) {
    j["fleet"] = {{"name", run.fleet->name},
                  {"inputs", run.total.corpus},
                  {"own", run.fleet->origins.own},
                  {"taken", run.fleet->origins.taken}};
  }
  return j.dump() + "\n";
}

std::string progress_line(const Moment& now, const Moment& previous, std::size_t waiting) {
  const double span = now.seconds - previous.seconds;
  const double per_second = span > 0 ? static_cast<double>(now.execs - previous.execs) / span : 0;
  std::string line = fmt::format(
      "{:4.0f} s  {} execs  {}/s  {} checks  {} by unicorn  {} edges  {} states  {} corpus{}  "
      "{} findings",
      now.seconds, short_number(static_cast<double>(now.execs)), short_number(per_second),
      short_number(static_cast<double>(now.checks)),
      short_number(static_cast<double>(now.unicorn_checks)), now.edges, now.mmu_states, now.corpus,
      now.taken ? fmt::format(" ({} taken over)", now.taken) : "", now.divergences);
  if (waiting) line += fmt::format(" ({} to triage)", waiting);
  return line;
}

}  // namespace twinwalk::fuzz
