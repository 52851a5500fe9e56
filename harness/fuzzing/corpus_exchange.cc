#include "harness/fuzzing/corpus_exchange.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include "harness/fuzzing/atomic_file.h"
#include "harness/fuzzing/candidate_store.h"

namespace twinwalk::fuzz {
namespace {

namespace fs = std::filesystem;

constexpr unsigned kFilesALook = 200;

// libFuzzer names what it finds by SHA-1.
bool is_found(const std::string& file) {
  return file.size() == 40 && file.find_first_not_of("0123456789abcdef") == std::string::npos;
}

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> out;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error))
    out.push_back(entry.path().filename().string());
  std::sort(out.begin(), out.end());
  return out;
}

// Whole or not there. It need not outlast a power loss: nothing is synced, since there are many.
std::string put(const std::string& bytes, const std::string& temporary, const std::string& path) {
  std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  out.close();
  if (!out || std::rename(temporary.c_str(), path.c_str()) != 0)
    return "cannot write " + path + ": " + std::strerror(errno);
  return {};
}

}  // namespace

std::uint64_t Origins::all_taken() const {
  std::uint64_t n = 0;
  for (const auto& [instance, inputs] : taken) n += inputs;
  return n;
}

std::string CorpusExchange::start(std::string corpus, std::string folder, std::string own) {
  corpus_ = std::move(corpus);
  folder_ = std::move(folder);
  own_ = std::move(own);
  const std::string queue = folder_ + "/" + own_ + "/queue";
  std::string why = make_folder(queue);
  std::string bytes;
  std::uint64_t hash = 0;
  for (const std::string& name : names_in(corpus_)) {
    std::string from;
    if (origin_of(name, from) == Origin::kTaken) ++origins_.taken[from];
    if (!is_found(name)) read_new(corpus_ + "/" + name, bytes, hash);
  }
  for (const std::string& name : names_in(queue)) {
    if (!is_queued(name)) continue;
    ++origins_.own;
    if (why.empty() && read_new((fs::path(queue) / name).string(), bytes, hash))
      why = put(bytes, corpus_ + ".new", fmt::format("{}/own-{:016x}", corpus_, hash));
  }
  return why;
}

void CorpusExchange::list_found() {
  for (std::string& name : found_.look(corpus_, is_found))
    to_give_.push_back({corpus_ + "/" + name, name, own_});
}

void CorpusExchange::list() {
  list_found();
  for (const Instance& instance : instances_in(folder_)) {
    if (instance.name == own_) continue;
    for (std::string& name : queues_[instance.name].look(instance.queue, is_queued))
      to_take_.push_back({instance.queue + "/" + name, name, instance.name});
  }
}

std::string CorpusExchange::look() {
  if (listed_all()) list();
  std::string why;
  for (unsigned n = 0; n < kFilesALook && why.empty() && !to_give_.empty(); ++n) {
    why = give(to_give_.front());
    to_give_.pop_front();
  }
  for (unsigned n = 0; n < kFilesALook && why.empty() && !to_take_.empty(); ++n) {
    why = take(to_take_.front());
    to_take_.pop_front();
  }
  return why;
}

std::string CorpusExchange::give_rest() {
  to_take_.clear();
  // Nobody writes any more: the second look is at once.
  for (unsigned n = 0; n < 2; ++n) list_found();
  std::string why;
  for (; why.empty() && !to_give_.empty(); to_give_.pop_front()) why = give(to_give_.front());
  return why;
}

// AFL++ goes through a queue by number and stops at one that is missing (sync_fuzzers()).
std::string CorpusExchange::give(const Input& input) {
  std::string bytes;
  std::uint64_t hash = 0;
  if (!read_new(input.path, bytes, hash)) return {};
  const std::string own = folder_ + "/" + own_;
  std::string why = put(bytes, own + "/.new",
                        fmt::format("{}/queue/id:{:06},sha1:{}", own, origins_.own, input.name));
  if (why.empty()) ++origins_.own;
  return why;
}

std::string CorpusExchange::take(const Input& input) {
  std::string bytes;
  std::uint64_t hash = 0;
  if (!read_new(input.path, bytes, hash)) return {};
  std::string why =
      put(bytes, corpus_ + ".new", fmt::format("{}/{:016x},sync:{}", corpus_, hash, input.from));
  if (why.empty()) ++origins_.taken[input.from];
  return why;
}

bool CorpusExchange::read_new(const std::string& path, std::string& bytes, std::uint64_t& hash) {
  // One that is gone was replaced by a smaller one.
  if (!read_file(path, kMaxInput, bytes) || bytes.empty()) return false;
  hash = hash_bytes(bytes);
  return known_.insert(hash).second;
}

}  // namespace twinwalk::fuzz
