#ifndef TWINWALK_HARNESS_CLI_HOST_WORKER_H_
#define TWINWALK_HARNESS_CLI_HOST_WORKER_H_

// One worker of `fuzz --subject kvm`: an emulated host, what is fuzzed there, and what is made of
// what it finds.

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "fuzzers/batch_fuzzer.h"
#include "harness/fuzzing/output.h"
#include "harness/fuzzing/triage.h"
#include "harness/trace/result_line.h"
#include "kvm_runner/hosts/hosts.h"

namespace twinwalk::cli {

// What the workers of a run share.
struct HostFuzzing {
  const fuzz::Config* config = nullptr;
  const hosts::HostVariant* variant = nullptr;
  fuzz::Output output;
  std::string corpus;  // folder that new inputs are added to
  fuzz::Population population;
  std::function<double()> now;  // seconds since the start

  std::atomic<bool> go{false};            // all hosts are up
  std::atomic<bool> stop{false};          // nothing new is begun
  std::atomic<bool> hurry{false};         // and nothing is made smaller any more
  std::atomic<std::uint64_t> waiting{0};  // findings that are to be made smaller
  std::atomic<std::uint64_t> execs{0}, ops{0}, checks{0}, skipped{0}, known{0};

  std::mutex mutex;  // of what follows; starting a host, too
  std::vector<fuzz::FindingRecord> findings;
  // Of each name that a finding has or had before it was made smaller: its index in `findings`,
  // kPending while it is being made smaller, kBehind if it is none after all.
  std::map<std::string, std::size_t> by_name;
  static constexpr std::size_t kPending = ~std::size_t{0};
  // Divergences that, made as small as they get, still come after a known deviation: what that one
  // left behind, as far as anybody can tell. No findings; "NAME behind ID".
  static constexpr std::size_t kBehind = kPending - 1;
  std::vector<std::string> behind_known;
  std::string subject;  // name and version, once a host is up
  std::string error;    // what must end the run
  unsigned ready = 0;   // workers whose host is up
};

// Starts its host, fuzzes until `stop`. Runs in a thread of its own, which the host belongs to.
void work_on_host(HostFuzzing& all, unsigned number);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_HOST_WORKER_H_
