#ifndef TWINWALK_HARNESS_CLI_MACHINE_FACTS_H_
#define TWINWALK_HARNESS_CLI_MACHINE_FACTS_H_

// What this machine has: processor flags, /dev/kvm and its kind, programs in PATH.

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace twinwalk::cli {

struct CpuFacts {
  std::string model;            // "model name" of /proc/cpuinfo, empty if it has none
  std::set<std::string> flags;  // of the first processor
  bool has(const std::string& flag) const { return flags.count(flag) != 0; }
};
// `cpuinfo`: the text of /proc/cpuinfo.
CpuFacts parse_cpuinfo(std::string_view cpuinfo);

struct KvmFacts {
  enum class State { kAbsent, kNotOpenable, kOpen } state = State::kAbsent;
  std::string why;      // kNotOpenable: the system's message
  int api_version = 0;  // kOpen; 12 is the only one that ever was stable
  std::string module;   // "kvm_intel", "kvm_amd"; empty where neither is loaded
  // Of that module, as /sys/module says ("Y", "N", "1", "0"); empty if it has no such parameter.
  std::string two_dimensional;  // ept or npt
  std::string nested;
  // True if a /dev/kvm is there although the processor offers neither VT-x nor SVM.
  bool without_hardware = false;
};
KvmFacts look_at_kvm(const CpuFacts& cpu);

// The whole text of a file; empty if it cannot be read.
std::string read_text(const std::string& path);
// Full path of a program in PATH; empty if there is none.
std::string find_program(const std::string& name);
// First line of what `command` prints, standard error included; empty if it cannot run.
std::string first_line_of(const std::string& command);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_MACHINE_FACTS_H_
