#include "harness/bench/measure.h"

#include <time.h>
#include <unistd.h>

#include <cstdio>

namespace twinwalk::bench {
namespace {

std::uint64_t now_ns(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace

std::uint64_t cpu_now_ns() { return now_ns(CLOCK_PROCESS_CPUTIME_ID); }
std::uint64_t wall_now_ns() { return now_ns(CLOCK_MONOTONIC); }

std::uint64_t resident_kib() {
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr) return 0;
  unsigned long total = 0, resident = 0;
  const int read = std::fscanf(file, "%lu %lu", &total, &resident);
  std::fclose(file);
  return read == 2 ? resident * static_cast<unsigned long>(sysconf(_SC_PAGESIZE)) / 1024 : 0;
}

}  // namespace twinwalk::bench
