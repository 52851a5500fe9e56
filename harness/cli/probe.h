#ifndef TWINWALK_HARNESS_CLI_PROBE_H_
#define TWINWALK_HARNESS_CLI_PROBE_H_

// Checks that a core may not survive, in a process of their own.

#include <functional>
#include <optional>
#include <string>

#include "harness/checker.h"

namespace twinwalk::cli {

struct Probe {
  bool survived = true;
  DivergenceClass divergence = DivergenceClass::kNone;  // the first one; kTrap if not survived
  std::string end;  // how the process ended if it should not have
};
// What checking `trace` shows. This process's checker and its subject stay as they are.
Probe probe(Checker& checker, const Trace& trace);

// What `say` gives, in a process of its own; nothing if that does not live to the end, or takes too
// long.
std::optional<std::string> text_of_child(const std::function<std::string()>& say);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_PROBE_H_
