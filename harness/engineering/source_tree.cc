#include "harness/engineering/source_tree.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

namespace twinwalk::engineering {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSourceFolders[] = {"mmu_core", "oracle",     "harness",
                                          "fuzzers",  "kvm_runner", "reports"};

bool has_suffix(const std::string& text, const std::string& suffix) {
  return text.size() >= suffix.size() &&
         text.compare(text.size() - suffix.size(), suffix.size(), suffix) == 0;
}

// Reads `#include "x"` and `#include <x>`; false for any other line.
bool parse_include(const std::string& line, Include& out) {
  const auto hash = line.find_first_not_of(" \t");
  if (hash == std::string::npos || line[hash] != '#') return false;
  const auto word = line.find_first_not_of(" \t", hash + 1);
  if (word == std::string::npos || line.compare(word, 7, "include") != 0) return false;
  const auto open = line.find_first_of("\"<", word + 7);
  if (open == std::string::npos) return false;
  const auto close = line.find(line[open] == '"' ? '"' : '>', open + 1);
  if (close == std::string::npos) return false;
  out.quoted = line[open] == '"';
  out.target = line.substr(open + 1, close - open - 1);
  return true;
}

SourceFile read_file(const fs::path& root, const fs::path& path) {
  SourceFile file;
  file.path = fs::relative(path, root).generic_string();
  std::ifstream stream(path);
  for (std::string line; std::getline(stream, line);) {
    Include include;
    if (parse_include(line, include)) {
      include.line = static_cast<unsigned>(file.lines.size() + 1);
      file.includes.push_back(include);
    }
    file.lines.push_back(line);
  }
  return file;
}

template <class Visit>
void for_each_file(const std::string& root, Visit visit) {
  for (const char* folder : kSourceFolders) {
    const fs::path top = fs::path(root) / folder;
    if (!fs::exists(top)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(top)) {
      if (entry.is_regular_file()) visit(entry.path());
    }
  }
}

}  // namespace

bool SourceFile::is_test() const {
  return has_suffix(path, "_test.cc") || path.find("/testing/") != std::string::npos;
}
bool SourceFile::is_header() const { return has_suffix(path, ".h"); }

std::vector<SourceFile> read_tree(const std::string& root) {
  static const std::set<std::string> kSuffixes = {".h", ".cc", ".c", ".S"};
  std::vector<SourceFile> files;
  for_each_file(root, [&](const fs::path& path) {
    if (kSuffixes.count(path.extension().string()) != 0) files.push_back(read_file(root, path));
  });
  std::sort(files.begin(), files.end(),
            [](const SourceFile& a, const SourceFile& b) { return a.path < b.path; });
  return files;
}

std::vector<std::string> folders_of(const std::string& root) {
  std::set<std::string> folders;
  for_each_file(root, [&](const fs::path& path) {
    folders.insert(fs::relative(path.parent_path(), root).generic_string());
  });
  return {folders.begin(), folders.end()};
}

std::vector<std::string> top_level_of(const std::string& root) {
  static const std::set<std::string> kLeftBehind = {"build", "twinwalk-out"};
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(root)) {
    const std::string name = entry.path().filename().string();
    if (name.front() != '.' && kLeftBehind.count(name) == 0) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace twinwalk::engineering
