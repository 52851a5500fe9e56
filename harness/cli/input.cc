#include "harness/cli/input.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <system_error>
#include <utility>

#include "harness/cli/output.h"
#include "harness/fuzzing/config.h"
#include "harness/trace/binary.h"
#include "harness/trace/load.h"
#include "harness/trace/parse.h"

namespace twinwalk::cli {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_at(const std::string& path, std::string_view why) {
  throw Failure(fmt::format("{}: {}", path, why));
}
[[noreturn]] void fail_errno(const std::string& path) { fail_at(path, std::strerror(errno)); }

// An open file that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ > STDERR_FILENO) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

void walks_below(const std::string& folder, std::vector<std::string>& out) {
  const std::size_t before = out.size();
  std::error_code error;
  for (fs::recursive_directory_iterator i(folder, error), end; !error && i != end;
       i.increment(error)) {
    if (i->path().extension() == ".walk" && !i->is_directory()) out.push_back(i->path().string());
  }
  if (error) fail_at(folder, error.message());
  if (out.size() == before) fail_at(folder, "no *.walk in or below this folder");
  std::sort(out.begin() + static_cast<std::ptrdiff_t>(before), out.end());
}

void write_all(int fd, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t wrote = ::write(fd, bytes.data(), bytes.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) fail_errno(path);
    bytes.remove_prefix(static_cast<std::size_t>(wrote));
  }
}

// Replaces the regular file `path`, or makes it with permissions `mode`.
void replace_file(const std::string& path, std::string_view bytes, mode_t mode) {
  const std::string temporary = fmt::format("{}.{}.tmp", path, ::getpid());
  try {
    const Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
    if (file.get() < 0) fail_errno(path);
    write_all(file.get(), bytes, path);
    if (::fsync(file.get()) != 0) fail_errno(path);
    if (::rename(temporary.c_str(), path.c_str()) != 0) fail_errno(path);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

}  // namespace

std::vector<std::string> expand_paths(const std::vector<std::string>& paths) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    struct stat status {};
    if (path != "-" && ::stat(path.c_str(), &status) != 0) fail_errno(path);
    if (path != "-" && S_ISDIR(status.st_mode)) {
      walks_below(path, files);
    } else {
      files.push_back(path);
    }
  }
  return files;
}

std::string read_file(const std::string& path) {
  const Descriptor file(path == "-" ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0) fail_errno(path);
  if (S_ISDIR(status.st_mode)) fail_at(path, std::strerror(EISDIR));
  const auto too_large = [&] {
    fail_at(path,
            fmt::format("larger than {} MiB, the most that a trace may be", kMaxTextBytes >> 20));
  };
  if (static_cast<std::uint64_t>(status.st_size) > kMaxTextBytes) too_large();
  std::string bytes(static_cast<std::size_t>(status.st_size) + 4096, '\0');
  std::size_t used = 0;
  for (;;) {
    if (used == bytes.size()) bytes.resize(bytes.size() * 2);
    const ssize_t got = ::read(file.get(), bytes.data() + used, bytes.size() - used);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_errno(path);
    if (got == 0) break;
    used += static_cast<std::size_t>(got);
    if (used > kMaxTextBytes) too_large();
  }
  bytes.resize(used);
  return bytes;
}

Trace parse_trace(const std::string& path, std::string_view bytes, const Reading& reading) {
  const bool raw = reading.input == Input::kRaw;
  const std::optional<fuzz::Config> config = fuzz::find_config(reading.config);
  if (raw && !config) {
    throw Failure(
        fmt::format("--config: found `{}`; allowed: {}", reading.config, fuzz::config_names()));
  }
  const std::span binary(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  if (reading.input == Input::kBinary && !has_binary_magic(binary)) {
    fail_at(path, "not a binary trace: it does not begin with the magic");
  }
  ParseResult parsed = reading.input == Input::kText
                           ? parse(bytes, path)
                           : read_trace(binary, path, raw ? Form::kRaw : Form::kAuto);
  if (!parsed) throw Failure(to_text(*parsed.error));
  if (raw) config->constrain(parsed.trace);
  return std::move(parsed.trace);
}

NamedTrace load_trace(const std::string& path, const Reading& reading) {
  return {path, parse_trace(path, read_file(path), reading)};
}

std::vector<NamedTrace> load_traces(const std::vector<std::string>& paths, const Reading& reading) {
  std::vector<NamedTrace> traces;
  for (const std::string& path : expand_paths(paths)) traces.push_back(load_trace(path, reading));
  return traces;
}

void write_file(const std::string& path, std::string_view bytes) {
  if (path == "-") {
    write_out(bytes);
    return;
  }
  // Through symbolic links, so that the file is replaced and not the link.
  const std::unique_ptr<char, void (*)(void*)> real(::realpath(path.c_str(), nullptr), std::free);
  if (real == nullptr) {
    if (errno != ENOENT) fail_errno(path);
    replace_file(path, bytes, 0666);
    return;
  }
  struct stat status {};
  if (::stat(real.get(), &status) != 0) fail_errno(path);
  if (S_ISDIR(status.st_mode)) fail_at(path, std::strerror(EISDIR));
  if (S_ISREG(status.st_mode)) {
    replace_file(real.get(), bytes, status.st_mode & 07777);
    return;
  }
  const Descriptor file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (file.get() < 0) fail_errno(path);
  write_all(file.get(), bytes, path);
}

}  // namespace twinwalk::cli
