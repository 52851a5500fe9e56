#include "harness/fuzzing/fleet.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "harness/fuzzing/atomic_file.h"

namespace twinwalk::fuzz {
namespace {

namespace fs = std::filesystem;

constexpr double kLookEvery = 1.0;     // seconds
constexpr double kCountEvery = 5.0;    // names of queues alone: AFL++ takes over by itself
constexpr unsigned kMaxUnnamed = 100;  // runs of one machine in one folder
constexpr unsigned kMaxMachineName = 20;

bool is_allowed(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-';
}

// AFL++'s n-th instance of `run`, for any n.
bool is_instance_of(const std::string& instance, const std::string& run) {
  return instance.starts_with(run + "-") && instance.size() > run.size() + 1 &&
         instance.find_first_not_of("0123456789", run.size() + 1) == std::string::npos;
}

}  // namespace

std::string bad_fleet_name(const std::string& name) {
  bool good = !name.empty() && name.size() <= kMaxFleetName;
  for (const char c : name) good = good && is_allowed(c);
  if (good) return {};
  return fmt::format("--name: found `{}`; allowed: 1 to {} letters, digits, - and _", name,
                     kMaxFleetName);
}

std::string machine_name() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  std::string out = std::string(name.data()).substr(0, kMaxMachineName);
  for (char& c : out) {
    if (!is_allowed(c)) c = '_';
  }
  return out.empty() ? "machine" : out;
}

FileLock::~FileLock() {
  if (fd_ >= 0) ::close(fd_);
}

FileLock::Got FileLock::lock(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd >= 0 && ::flock(fd, LOCK_EX | LOCK_NB) == 0) {
    fd_ = fd;
    return Got::kLocked;
  }
  const int error = errno;
  if (fd >= 0) ::close(fd);
  if (error == EWOULDBLOCK) return Got::kTaken;
  error_ = "cannot lock " + path + ": " + std::strerror(error);
  return Got::kFailed;
}

std::string Fleet::join(const std::string& folder, const std::string& name) {
  if (!name.empty()) {
    std::string why = bad_fleet_name(name);
    if (!why.empty()) return why;
  }
  std::string why = make_folder(folder);
  if (!why.empty()) return why;
  std::error_code error;
  folder_ = fs::canonical(folder, error).string();
  if (error) return "cannot use " + folder + ": " + error.message();
  const std::string base = name.empty() ? machine_name() : name;
  for (unsigned n = 1; n <= (name.empty() ? kMaxUnnamed : 1); ++n) {
    const std::string wanted = n == 1 ? base : fmt::format("{}_{}", base, n);
    const FileLock::Got got = name_lock_.lock(folder_ + "/." + wanted + ".lock");
    if (got == FileLock::Got::kFailed) return name_lock_.error();
    if (got == FileLock::Got::kTaken) continue;
    name_ = wanted;
    return {};
  }
  return "a run named " + base + " is at work in " + folder_ + "; name this one: --name";
}

bool Fleet::become_main() {
  return main_lock_.lock(folder_ + "/.afl-main") == FileLock::Got::kLocked;
}

std::string Fleet::exchange(const std::string& corpus) {
  exchanges_ = true;
  return exchange_.start(corpus, folder_, name_ + "-libfuzzer");
}

std::string Fleet::tend(double now) {
  const bool busy = exchanges_ && !exchange_.listed_all();
  if (!joined() || (!busy && now < next_look_)) return {};
  next_look_ = now + (exchanges_ ? kLookEvery : kCountEvery);
  if (exchanges_) return exchange_.look();
  of_instances_ = count_instances();
  return {};
}

std::string Fleet::finish() {
  if (!joined()) return {};
  if (exchanges_) return exchange_.give_rest();
  of_instances_ = count_instances();
  return {};
}

Origins Fleet::count_instances() const {
  Origins out;
  std::string from;
  std::error_code error;
  for (const Instance& instance : instances_in(folder_)) {
    if (!is_instance_of(instance.name, name_)) continue;
    for (const auto& entry : fs::directory_iterator(instance.queue, error)) {
      const std::string file = entry.path().filename().string();
      if (!is_queued(file)) continue;
      const Origin origin = origin_of(file, from);
      if (origin == Origin::kFound) ++out.own;
      if (origin == Origin::kTaken && !is_instance_of(from, name_)) ++out.taken[from];
    }
  }
  return out;
}

std::string to_text(const Origins& origins) {
  std::string text =
      fmt::format("{} inputs of its own, {} taken over", origins.own, origins.all_taken());
  const char* between = " (";
  for (const auto& [instance, inputs] : origins.taken) {
    text += fmt::format("{}{} from {}", between, inputs, instance);
    between = ", ";
  }
  return origins.taken.empty() ? text : text + ")";
}

}  // namespace twinwalk::fuzz
