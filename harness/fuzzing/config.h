#ifndef TWINWALK_HARNESS_FUZZING_CONFIG_H_
#define TWINWALK_HARNESS_FUZZING_CONFIG_H_

// Configurations of `fuzz --config NAME[+OPTION...]`: the machines that a fuzzer may try.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "harness/trace/op.h"

namespace twinwalk::fuzz {

struct Config {
  std::string name;
  std::string_view does;  // one sentence
  void (*mode)(Machine&);
  bool interleaves = false;                   // `at` blocks
  bool needs_host = false;                    // for real MMUs only: `--subject kvm`
  std::optional<std::uint32_t> options = {};  // of the core: these and no others; or any

  // Brings any legal machine into the configuration; one that is in it stays as it is.
  void constrain(Machine& machine) const;
  // A whole trace: operations are those of vCPUs that are there, too.
  void constrain(Trace& trace) const;
};

std::span<const Config> configs();
// Nothing if there is none of that name. "all" is what exists; "shadow-64+no-prefetch+extra-flush"
// is shadow-64 with the core's options set to these.
std::optional<Config> find_config(std::string_view name);
// "all, shadow-32, ...", and the options: for messages.
std::string config_names();

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_CONFIG_H_
