// twinwalk-unicorn: Unicorn Engine in a process of its own.

#include <cstdio>
#include <cstring>

#include "oracle/unicorn/bench.h"
#include "oracle/unicorn/server.h"

namespace {

constexpr const char kUsage[] =
    "usage: twinwalk-unicorn --serve | --bench\n"
    "  --serve  execute journals for a client (file descriptors 3 and 4; started by twinwalk)\n"
    "  --bench  measure bare Unicorn against the harness around it; prints one JSON object\n";

}  // namespace

// Under the leak sanitizer: what Unicorn itself does not free at exit is not ours to report.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:libunicorn.so\n"; }

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "--serve") == 0) return twinwalk::oracle::unicorn::serve();
  if (argc == 2 && std::strcmp(argv[1], "--bench") == 0)
    return twinwalk::oracle::unicorn::bench(argv[0]);
  if (argc == 2 && std::strcmp(argv[1], "--help") == 0) {
    std::fputs(kUsage, stdout);
    return 0;
  }
  std::fputs(kUsage, stderr);
  return 2;
}
