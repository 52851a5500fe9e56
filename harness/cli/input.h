#ifndef TWINWALK_HARNESS_CLI_INPUT_H_
#define TWINWALK_HARNESS_CLI_INPUT_H_

// What the command line names, read: files, folders, traces. Every error is a Failure that names
// the place.

#include <string>
#include <string_view>
#include <vector>

#include "harness/trace/op.h"

namespace twinwalk::cli {

// What a verb takes.
enum class Input {
  kAny,     // text, or binary by its magic
  kText,    // text only
  kBinary,  // the file form of the binary twin only
  kRaw,     // any bytes, as a fuzz target reads them
};

// How a trace is read.
struct Reading {
  Input input = Input::kAny;
  std::string config = "all";  // kRaw: the fuzz target's, which makes the machine one of its own
  Reading() = default;
  Reading(Input way) : input(way) {}  // NOLINT(google-explicit-constructor)
};

struct NamedTrace {
  std::string path;  // as given on the command line, or found below a folder that was
  Trace trace;
};

// The files that `paths` name: a file is itself; a folder is every *.walk below it, sorted. Throws
// if a path does not exist, a folder cannot be listed, or a folder has no *.walk.
std::vector<std::string> expand_paths(const std::vector<std::string>& paths);

// The whole file. Throws if it cannot be read or has more than kMaxTextBytes. "-" is standard
// input.
std::string read_file(const std::string& path);

// The trace in `bytes`, which were read from `path`. Throws if it is none, or there is no such
// configuration.
Trace parse_trace(const std::string& path, std::string_view bytes, const Reading& reading);
NamedTrace load_trace(const std::string& path, const Reading& reading);
// All of them, so that nothing is printed before all of the input is known to be good.
std::vector<NamedTrace> load_traces(const std::vector<std::string>& paths, const Reading& reading);

// Writes a whole file or nothing: a temporary file beside it, synced and renamed. What is no
// regular file (a device, a pipe) is written as it is. "-" is standard output. Throws if it cannot.
void write_file(const std::string& path, std::string_view bytes);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_INPUT_H_
