// AFL++ persistent mode with shared-memory test cases. AFL++'s own libFuzzer driver is not used: it
// would not tell the fork server apart from the first input, and ignores the mutator.

#include <unistd.h>

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerInitialize(int*, char***);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t*, std::size_t);

__AFL_FUZZ_INIT();

int main(int argc, char** argv) {
  LLVMFuzzerInitialize(&argc, &argv);
  __AFL_INIT();
  const std::uint8_t* input = __AFL_FUZZ_TESTCASE_BUF;
  while (__AFL_LOOP(100'000)) {
    LLVMFuzzerTestOneInput(input, static_cast<std::size_t>(__AFL_FUZZ_TESTCASE_LEN));
  }
  return 0;
}
