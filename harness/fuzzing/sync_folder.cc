#include "harness/fuzzing/sync_folder.h"

#include <algorithm>
#include <filesystem>

namespace twinwalk::fuzz {

namespace fs = std::filesystem;

std::vector<Instance> instances_in(const std::string& folder) {
  std::vector<Instance> out;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    const fs::path queue = entry.path() / "queue";
    if (!name.starts_with('.') && fs::is_directory(queue, error))
      out.push_back({name, queue.string()});
  }
  std::sort(out.begin(), out.end(),
            [](const Instance& a, const Instance& b) { return a.name < b.name; });
  return out;
}

bool is_queued(const std::string& file) { return file.starts_with("id:"); }

// AFL++ describes an entry in its name, see describe_op(): "orig:FILE" of a seed, "sync:INSTANCE,"
// of one that it took over, how it was made of all others.
Origin origin_of(const std::string& file, std::string& from) {
  from.clear();
  if (file.find(",orig:") != std::string::npos) return Origin::kSeed;
  const std::size_t at = file.find(",sync:");
  if (at == std::string::npos) return Origin::kFound;
  const std::size_t begin = at + 6;
  from = file.substr(begin, file.find(',', begin) - begin);
  return Origin::kTaken;
}

std::vector<std::string> Arrivals::look(const std::string& folder,
                                        bool (*wanted)(const std::string&)) {
  std::vector<std::string> out;
  std::set<std::string> seen;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    std::string name = entry.path().filename().string();
    if (!wanted(name) || told_.contains(name)) continue;
    if (seen_.contains(name)) {
      told_.insert(name);
      out.push_back(std::move(name));
    } else {
      seen.insert(std::move(name));
    }
  }
  seen_ = std::move(seen);
  std::sort(out.begin(), out.end());
  return out;
}

std::uint64_t count_files(const std::string& folder) {
  std::uint64_t n = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) n += entry.is_regular_file(error);
  return n;
}

}  // namespace twinwalk::fuzz
