#ifndef TWINWALK_HARNESS_FUZZING_CONFIG_H_
#define TWINWALK_HARNESS_FUZZING_CONFIG_H_

// Configurations of `fuzz --config NAME`: the machines that a fuzzer may try.

#include <span>
#include <string>
#include <string_view>

#include "harness/trace/machine.h"

namespace twinwalk::fuzz {

struct Config {
  std::string_view name;
  std::string_view does;  // one sentence
  // Brings any legal machine into the configuration; one that is in it stays as it is.
  void (*constrain)(Machine&);
};

std::span<const Config> configs();
// nullptr if there is none of that name. "all" is what exists.
const Config* find_config(std::string_view name);
// "all, shadow-32, ...": for messages.
std::string config_names();

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_CONFIG_H_
