#include "harness/cli/machine_facts.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <sstream>

namespace twinwalk::cli {
namespace {

std::string trimmed(std::string text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

// Drops terminal escapes: ESC [ ... letter.
std::string without_colours(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\x1b') {
      plain += text[i];
      continue;
    }
    while (i + 1 < text.size() && std::isalpha(static_cast<unsigned char>(text[i])) == 0) ++i;
  }
  return plain;
}

}  // namespace

CpuFacts parse_cpuinfo(std::string_view cpuinfo) {
  CpuFacts facts;
  std::istringstream lines{std::string(cpuinfo)};
  for (std::string line; std::getline(lines, line);) {
    const auto colon = line.find(':');
    if (colon == std::string::npos) {
      if (!facts.flags.empty()) break;  // the first processor is enough
      continue;
    }
    const std::string key = trimmed(line.substr(0, colon));
    if (key == "model name" && facts.model.empty()) facts.model = trimmed(line.substr(colon + 1));
    // "vmx flags" holds the VT-x capabilities that newer kernels no longer list under "flags".
    if (key == "flags" || key == "vmx flags") {
      std::istringstream words(line.substr(colon + 1));
      facts.flags.insert(std::istream_iterator<std::string>(words), {});
    }
  }
  return facts;
}

KvmFacts look_at_kvm(const CpuFacts& cpu) {
  KvmFacts facts;
  for (const char* module : {"kvm_intel", "kvm_amd"}) {
    const std::string parameters = std::string("/sys/module/") + module + "/parameters/";
    const std::string nested = trimmed(read_text(parameters + "nested"));
    if (nested.empty()) continue;
    facts.module = module;
    facts.nested = nested;
    facts.two_dimensional =
        trimmed(read_text(parameters + (facts.module == "kvm_intel" ? "ept" : "npt")));
  }
  const int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (fd < 0) {
    if (errno == ENOENT) return facts;
    facts.state = KvmFacts::State::kNotOpenable;
    facts.why = std::strerror(errno);
    return facts;
  }
  facts.state = KvmFacts::State::kOpen;
  facts.api_version = ioctl(fd, KVM_GET_API_VERSION, 0);
  facts.without_hardware = !cpu.has("vmx") && !cpu.has("svm");
  close(fd);
  return facts;
}

std::string read_text(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string find_program(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "" : path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    std::string full = folder + "/" + name;
    if (access(full.c_str(), X_OK) == 0) return full;
  }
  return "";
}

std::string first_line_of(const std::string& command) {
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen((command + " 2>&1").c_str(), "r"), pclose);
  if (pipe == nullptr) return "";
  std::array<char, 512> line{};
  if (std::fgets(line.data(), line.size(), pipe.get()) == nullptr) return "";
  return trimmed(without_colours(line.data()));
}

}  // namespace twinwalk::cli
