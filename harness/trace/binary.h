#ifndef TWINWALK_HARNESS_TRACE_BINARY_H_
#define TWINWALK_HARNESS_TRACE_BINARY_H_

// The binary twin of a trace, made for fuzzers: compact, byte-oriented, and without offsets or
// lengths, so that a local change of bytes is a local change of the trace. The layout is in the
// README.

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "harness/trace/op.h"

namespace twinwalk {

inline constexpr std::string_view kBinaryMagic{"TWWALK1\0", 8};
inline constexpr std::uint8_t kBinaryVersion = 2;

bool has_binary_magic(std::span<const std::uint8_t> bytes);

// The file form: magic, version, and everything that the trace holds except Op::line. Replaces
// `out`. decode(encode(t)) == t for every trace that parse() gives.
void encode(const Trace& trace, std::vector<std::uint8_t>& out);

// The fuzzing form: machine and operations only, no magic. Replaces `out`.
void encode_raw(const Trace& trace, std::vector<std::uint8_t>& out);

struct Decoded {
  bool file_form = false;  // magic and a version that is known; otherwise the bytes were read as
                           // the fuzzing form
  bool whole = false;      // file form with nothing missing at its end
};

// Total: any bytes are some legal trace, as parse() could have given it. The fuzzing form gives at
// most kMaxFuzzOps operations, the file form kMaxOps. Replaces `out`; allocates nothing once warm
// in the fuzzing form.
Decoded decode(std::span<const std::uint8_t> bytes, Trace& out);

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_TRACE_BINARY_H_
