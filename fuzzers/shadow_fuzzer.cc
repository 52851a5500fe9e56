// The fuzz target of the core: the same for libFuzzer and, through afl_main.cc, for AFL++.

#include "fuzzers/session.h"

namespace {

twinwalk::fuzz::Session& session() {
  static twinwalk::fuzz::Session one;
  return one;
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  session();
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return session().run(data, size);
}
