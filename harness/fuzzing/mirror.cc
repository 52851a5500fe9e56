#include "harness/fuzzing/mirror.h"

#include <filesystem>
#include <set>
#include <string_view>
#include <vector>

#include "harness/fuzzing/atomic_file.h"

namespace twinwalk::fuzz {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxSource = 16 << 20;

}  // namespace

std::string mirror_file(const std::string& from, const std::string& to) {
  std::string was, is;
  if (!read_file(from, kMaxSource, is)) return "cannot read " + from;
  if (read_file(to, kMaxSource, was) && was == is) return {};
  return write_atomically(to, std::string_view(is));
}

std::string mirror(const std::string& from, const std::string& to) {
  std::error_code error;
  std::set<fs::path> wanted;
  for (const auto& entry : fs::recursive_directory_iterator(from, error)) {
    const fs::path relative = entry.path().lexically_relative(from);
    if (entry.is_directory(error)) continue;
    wanted.insert(relative);
    const fs::path copy = fs::path(to) / relative;
    std::string why = make_folder(copy.parent_path().string());
    if (why.empty()) why = mirror_file(entry.path().string(), copy.string());
    if (!why.empty()) return why;
  }
  std::vector<fs::path> gone;
  for (const auto& entry : fs::recursive_directory_iterator(to, error)) {
    if (!entry.is_directory(error) && !wanted.count(entry.path().lexically_relative(to)))
      gone.push_back(entry.path());
  }
  for (const fs::path& path : gone) fs::remove(path, error);
  return {};
}

}  // namespace twinwalk::fuzz
