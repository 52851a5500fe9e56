#ifndef TWINWALK_HARNESS_FUZZING_ATOMIC_FILE_H_
#define TWINWALK_HARNESS_FUZZING_ATOMIC_FILE_H_

// Files that are whole or not there.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace twinwalk::fuzz {

// Writes `bytes` to a temporary file beside `path`, syncs it, renames it over `path` and syncs the
// folder: after a kill or a power loss there is the old file, the new one, or none, never a part.
// Returns "" or why it failed
// ("cannot write FILE: No space left on device"); a file of that name is then as it was.
std::string write_atomically(const std::string& path, std::span<const std::uint8_t> bytes);
std::string write_atomically(const std::string& path, std::string_view text);

// The whole file; false if it cannot be read or is larger than `most` bytes.
bool read_file(const std::string& path, std::size_t most, std::string& out);

// Creates the folder and those above it. Returns "" or why it failed.
std::string make_folder(const std::string& path);

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_ATOMIC_FILE_H_
