#include "harness/cli/corpus_verb.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "harness/cli/output.h"
#include "harness/fuzzing/input_corpus.h"
#include "harness/fuzzing/interrupts.h"
#include "harness/fuzzing/programs.h"
#include "kvm_runner/hosts/emulator.h"

namespace twinwalk::cli {
namespace {

namespace fs = std::filesystem;

// The corpus tools of one call, and the folder that they work in.
class Tools {
 public:
  explicit Tools(const CorpusOptions& options)
      : corpus_(worker(), options.config, folder_.file("work")) {}
  fuzz::InputCorpus* operator->() { return &corpus_; }

 private:
  static std::string worker() {
    std::string found = fuzz::find_programs().worker;
    if (found.empty()) {
      throw Failure(
          "no fuzz target here; build it: cmake --preset fuzz && cmake --build --preset fuzz");
    }
    return found;
  }

  const fuzz::Interrupts interrupts_;
  hosts::ScratchFolder folder_;
  fuzz::InputCorpus corpus_;
};

void need(const std::string& why) {
  if (!why.empty()) throw Failure(why);
}

void need_folders(const std::vector<std::string>& folders, std::size_t from) {
  for (std::size_t i = from; i < folders.size(); ++i) {
    if (!fs::exists(folders[i])) throw Failure(folders[i] + ": No such file or directory");
  }
}

std::size_t inputs_in(const std::string& folder) {
  return fs::is_directory(folder) ? fuzz::list_inputs(folder).size() : 0;
}

std::string to_json(const std::string& folder, const fuzz::CorpusStat& s) {
  nlohmann::ordered_json j;
  j["corpus"] = folder;
  j["inputs"] = s.inputs;
  j["bytes"] = s.bytes;
  j["operations"] = s.operations;
  j["edges"] = s.reach.edges;
  j["mmu_states"] = s.reach.mmu_states;
  j["divergences"] = s.reach.divergences;
  j["machines"] = s.machines;
  return j.dump();
}

void tell(const std::string& folder, const fuzz::CorpusStat& s) {
  print("{}: {} inputs, {} bytes, {} operations; {} edges, {} MMU states, {} diverge\n", folder,
        s.inputs, s.bytes, s.operations, s.reach.edges, s.reach.mmu_states, s.reach.divergences);
  for (const auto& [machine, inputs] : s.machines) print("  {:<18} {}\n", machine, inputs);
}

}  // namespace

int merge_corpus(const CorpusOptions& options) {
  const std::string& to = options.folders.front();
  need_folders(options.folders, 1);
  if (fs::exists(to) && !fs::is_directory(to)) throw Failure(to + " is not a folder");
  Tools tools(options);
  const std::size_t before = inputs_in(to);
  need(tools->merge(to, {options.folders.begin() + 1, options.folders.end()}));
  const std::size_t after = inputs_in(to);
  print("{}: {} inputs, {} of them new\n", to, after, after - before);
  return kExitGood;
}

int minimise_corpus(const CorpusOptions& options) {
  need_folders(options.folders, 0);
  Tools tools(options);
  for (const std::string& folder : options.folders) {
    if (!fs::is_directory(folder)) throw Failure(folder + " is not a folder");
    const std::size_t before = inputs_in(folder);
    need(tools->minimise(folder));
    print("{}: {} inputs of {} are left\n", folder, inputs_in(folder), before);
  }
  return kExitGood;
}

int stat_corpus(const CorpusOptions& options) {
  need_folders(options.folders, 0);
  Tools tools(options);
  for (const std::string& folder : options.folders) {
    fuzz::CorpusStat stat;
    need(tools->stat(folder, stat));
    if (options.json) {
      print("{}\n", to_json(folder, stat));
    } else {
      tell(folder, stat);
    }
  }
  return kExitGood;
}

}  // namespace twinwalk::cli
