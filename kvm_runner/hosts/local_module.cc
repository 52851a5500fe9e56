#include "kvm_runner/hosts/local_module.h"

#include <fstream>

#include "kvm_runner/hosts/emulator.h"

namespace twinwalk::hosts {
namespace {

std::string first_word(const std::string& path) {
  std::ifstream in(path);
  std::string word;
  in >> word;
  return word;
}

bool run_to_end(const std::vector<std::string>& words, std::string& why) {
  ScratchFolder scratch;
  const std::string output = scratch.file("output");
  Emulator program;
  std::string text;
  if (!program.start(words, output, "", text) || !program.wait(std::chrono::seconds(30))) {
    why = words[0] + ": " + (text.empty() ? "does not come to an end" : text);
    return false;
  }
  why = tail_of(output, 2);
  return why.empty();
}

}  // namespace

bool LocalModule::find(std::string& why, const std::string& modules) {
  struct Known {
    const char *name, *parameter;
  };
  for (const auto& [name, parameter] : {Known{"kvm_intel", "ept"}, Known{"kvm_amd", "npt"}}) {
    const std::string value = first_word(modules + "/" + name + "/parameters/" + parameter);
    if (value.empty()) continue;
    const std::string users = first_word(modules + "/" + name + "/refcnt");
    if (users != "0") {
      why = std::string(name) + (users.empty() ? " is part of the kernel" : " is in use");
      return false;
    }
    name_ = name;
    parameter_ = parameter;
    before_ = value == "Y" || value == "1";
    return true;
  }
  why = "neither kvm_intel nor kvm_amd is loaded here";
  return false;
}

bool LocalModule::load(bool value, std::string& why) {
  return run_to_end({"modprobe", "-r", name_}, why) &&
         run_to_end({"modprobe", name_, parameter_ + "=" + (value ? "1" : "0")}, why);
}

bool LocalModule::load_with(bool value, std::string& why) {
  changed_ = true;
  if (load(value, why)) return true;
  std::string ignored;
  load(before_, ignored);
  return false;
}

LocalModule::~LocalModule() {
  std::string ignored;
  if (changed_) load(before_, ignored);
}

}  // namespace twinwalk::hosts
