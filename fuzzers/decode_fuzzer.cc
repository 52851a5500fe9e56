// Bytes as text and as binary: the parser refuses or gives a legal trace, the decoder always gives
// one, and what either gives survives both round trips.

#include <cstdio>
#include <cstdlib>
#include <string>

#include "harness/trace/binary.h"
#include "harness/trace/parse.h"
#include "harness/trace/print.h"

namespace {

using twinwalk::Trace;

[[noreturn]] void broken(const char* what, const std::string& text) {
  std::fprintf(stderr, "%s:\n%s\n", what, text.c_str());
  std::abort();
}

void check_text_round_trip(const Trace& trace) {
  const std::string text = twinwalk::print(trace);
  const twinwalk::ParseResult back = twinwalk::parse(text, "printed");
  if (!back) broken(twinwalk::to_text(*back.error).c_str(), text);
  if (!(back.trace == trace)) broken("parse(print(t)) is not t", text);
  if (twinwalk::print(back.trace) != text) broken("print is not a fixed point", text);
}

void check_binary_round_trip(const Trace& trace) {
  static std::vector<std::uint8_t> bytes;
  static Trace back;
  twinwalk::encode(trace, bytes);
  const twinwalk::Decoded d = twinwalk::decode(bytes, back);
  if (!d.whole || !(back == trace)) broken("decode(encode(t)) is not t", twinwalk::print(trace));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Trace decoded;
  twinwalk::decode({data, size}, decoded);
  if (decoded.ops.size() <= twinwalk::kMaxFuzzOps) {
    check_text_round_trip(decoded);
    check_binary_round_trip(decoded);
  }
  const twinwalk::ParseResult parsed =
      twinwalk::parse(std::string_view(reinterpret_cast<const char*>(data), size), "input");
  if (parsed) {
    check_text_round_trip(parsed.trace);
    check_binary_round_trip(parsed.trace);
  }
  return 0;
}
