#include "harness/trace/load.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "harness/trace/binary.h"

namespace twinwalk {
namespace {

ParseResult failure(const std::string& name, std::string message) {
  ParseResult result;
  result.error = ParseError{name, 0, 0, std::move(message)};
  return result;
}

struct CloseFile {
  void operator()(std::FILE* f) const { std::fclose(f); }
};

}  // namespace

ParseResult read_trace(std::span<const std::uint8_t> bytes, const std::string& name, Form form) {
  if (form == Form::kAuto && !has_binary_magic(bytes)) {
    return parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, name);
  }
  ParseResult result;
  const Decoded decoded = decode(bytes, result.trace);
  if (form == Form::kRaw) return result;
  if (!decoded.file_form) {
    return failure(name, fmt::format("found a binary trace of an unknown version; allowed: {}",
                                     kBinaryVersion));
  }
  if (!decoded.whole) return failure(name, "found a binary trace that is truncated or damaged");
  return result;
}

ParseResult load_trace(const std::string& path, Form form) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored))
    return failure(path, "found a folder; allowed: a file");
  const std::unique_ptr<std::FILE, CloseFile> file(std::fopen(path.c_str(), "rb"));
  if (!file) return failure(path, std::generic_category().message(errno));
  std::vector<std::uint8_t> bytes;
  std::size_t size = 0;
  // Not by the file's size: pipes have none.
  while (true) {
    bytes.resize(size + 65536);
    const std::size_t read = std::fread(bytes.data() + size, 1, bytes.size() - size, file.get());
    size += read;
    if (size > kMaxTextBytes) {
      return failure(path, fmt::format("found more than {} bytes; a trace has at most that many",
                                       kMaxTextBytes));
    }
    if (read == 0) break;
  }
  if (std::ferror(file.get())) return failure(path, "cannot be read");
  bytes.resize(size);
  return read_trace(bytes, path, form);
}

}  // namespace twinwalk
