#include "harness/fuzzing/output.h"

#include <filesystem>

#include "harness/fuzzing/atomic_file.h"

namespace twinwalk::fuzz {
namespace {

namespace fs = std::filesystem;

std::string free_name() {
  for (unsigned n = 1;; ++n) {
    std::string name = "twinwalk-out/" + std::to_string(n);
    std::error_code error;
    if (!fs::exists(name, error)) return name;
  }
}

std::string check_writable(const std::string& folder) {
  const std::string probe = folder + "/.probe";
  std::string why = write_atomically(probe, std::string_view("probe\n"));
  std::error_code error;
  fs::remove(probe, error);
  return why;
}

}  // namespace

std::string make_output(const std::string& root, Output& out) {
  std::error_code error;
  const fs::path absolute = fs::absolute(root.empty() ? free_name() : root, error);
  if (error) return "cannot use " + root + ": " + error.message();
  out.root = absolute.lexically_normal().string();
  while (out.root.size() > 1 && out.root.back() == '/') out.root.pop_back();
  for (const std::string& folder : {out.root, out.findings(), out.candidates(), out.workers()}) {
    std::string why = make_folder(folder);
    if (why.empty()) why = check_writable(folder);
    if (!why.empty()) return why;
  }
  return {};
}

}  // namespace twinwalk::fuzz
