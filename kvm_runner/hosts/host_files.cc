#include "kvm_runner/hosts/host_files.h"

#include <sys/stat.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <system_error>

namespace twinwalk::hosts {
namespace {

std::filesystem::path own_folder() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
}

}  // namespace

std::string host_folder() {
  const char* build = std::getenv("TWINWALK_BUILD_DIR");
  if (build != nullptr && *build != '\0') return std::string(build) + "/hosts";
  return (own_folder().parent_path().parent_path() / "hosts").string();
}

std::string host_file(const std::string& name, std::string& why) {
  const std::string path = host_folder() + "/" + name;
  std::error_code error;
  if (std::filesystem::exists(path, error)) return path;
  why = path + " is not there; `./twinwalk conform --host ...` makes it";
  return {};
}

std::string program_file(const std::string& name, std::string& why) {
  const std::string path = (own_folder() / name).string();
  std::error_code error;
  if (std::filesystem::exists(path, error)) return path;
  why = path + " was not built";
  return {};
}

std::string identity_of(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) return path;
  return path + ":" + std::to_string(status.st_size) + ":" + std::to_string(status.st_mtim.tv_sec) +
         "." + std::to_string(status.st_mtim.tv_nsec);
}

std::string output_of(const std::string& command) {
  constexpr std::size_t kMost = 1 << 14;
  std::string text;
  FILE* out = popen((command + " 2>/dev/null").c_str(), "r");
  if (out == nullptr) return text;
  char buffer[512];
  while (std::fgets(buffer, sizeof buffer, out) != nullptr) {
    if (text.size() < kMost) text += buffer;
  }
  pclose(out);
  return text;
}

}  // namespace twinwalk::hosts
