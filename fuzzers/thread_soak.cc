// thread_soak: the mutator's programs on the core with real threads, one after the other, until the
// time is over or something is wrong. Meant for a build with ThreadSanitizer; README.md has how.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "fuzzers/mutator.h"
#include "harness/fuzzing/atomic_file.h"
#include "harness/threads/run.h"
#include "harness/trace/load.h"
#include "harness/trace/print.h"

namespace twinwalk::fuzz {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMostOps = 96;

struct Wanted {
  std::string config = "tdp-smp", out;
  std::uint64_t seconds = 10, programs = 0, first = 0;  // programs: 0, as many as there is time for
  unsigned rounds = 4;
  bool as_is = false;
  std::vector<std::string> paths;
};

// What runs, so that a panic, which cannot return, can be told with its trace.
struct Current {
  const Wanted* wanted = nullptr;
  const Trace* trace = nullptr;
  std::uint64_t number = 0;
} current;

void report(const std::string& why) {
  std::printf("thread_soak: program %llu: %s\n", static_cast<unsigned long long>(current.number),
              why.c_str());
  const std::string text = print(*current.trace);
  if (current.wanted->out.empty()) {
    std::fputs(text.c_str(), stdout);
  } else {
    const std::string path = fmt::format("{}/threads-{}.walk", current.wanted->out, current.number);
    const std::string trouble = write_atomically(path, text);
    std::printf("%s\n", trouble.empty() ? path.c_str() : trouble.c_str());
  }
  std::fflush(stdout);
}

void on_panic(const char* why) { report(std::string("panic: ") + why); }

// A program depends on its number and the paths only, so that any of them can be run again alone.
void make(const Config& config, Mutator& mutator, const std::vector<Trace>& seeds,
          std::uint64_t number, Trace& out) {
  Rng rng(number);
  if (seeds.empty() || rng.below(4) == 0) {
    mutator.generate(rng, kMostOps, out);
  } else {
    out = seeds[rng.below(seeds.size())];
    config.constrain(out);
    for (std::uint32_t left = 1 + rng.below(8); left != 0; --left)
      mutator.mutate(rng, kMostOps, out);
  }
}

bool read_seeds(const std::vector<std::string>& paths, std::vector<Trace>& seeds) {
  for (const std::string& path : paths) {
    ParseResult read = load_trace(path);
    if (!read) {
      std::fprintf(stderr, "thread_soak: %s\n", to_text(*read.error).c_str());
      return false;
    }
    seeds.push_back(std::move(read.trace));
  }
  return true;
}

int soak(const Wanted& wanted) {
  const std::optional<Config> config = find_config(wanted.config);
  if (!config) {
    std::fprintf(stderr, "thread_soak: no configuration '%s'; there are %s\n",
                 wanted.config.c_str(), config_names().c_str());
    return 2;
  }
  std::vector<Trace> seeds;
  if (!read_seeds(wanted.paths, seeds)) return 2;
  if (wanted.as_is && seeds.empty()) {
    std::fprintf(stderr, "thread_soak: --as-is needs traces\n");
    return 2;
  }
  if (!wanted.out.empty()) {
    const std::string trouble = make_folder(wanted.out);
    if (!trouble.empty()) {
      std::fprintf(stderr, "thread_soak: %s\n", trouble.c_str());
      return 2;
    }
  }
  Mutator mutator(*config);
  ThreadedRun run(on_panic);
  Lowering lowering;
  Trace trace;
  Program program;
  std::uint64_t done = 0, left_out = 0;
  const Clock::time_point start = Clock::now();
  const auto seconds = [&] {
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - start).count());
  };
  std::uint64_t told = 0;
  const auto tell = [&] {
    const ThreadedRunCounts& c = run.counts();
    std::printf("%5llu s  %llu programs  %llu steps  %llu accesses  %llu completed\n",
                static_cast<unsigned long long>(seconds()), static_cast<unsigned long long>(done),
                static_cast<unsigned long long>(c.steps),
                static_cast<unsigned long long>(c.accesses),
                static_cast<unsigned long long>(c.completed));
    std::fflush(stdout);
  };
  for (std::uint64_t n = wanted.first; seconds() < wanted.seconds; ++n) {
    if (wanted.programs != 0 && n == wanted.first + wanted.programs) break;
    if (wanted.as_is) {
      trace = seeds[n % seeds.size()];
    } else {
      make(*config, mutator, seeds, n, trace);
    }
    if (ThreadedRun::why_not(trace.machine) != nullptr) {
      ++left_out;
      continue;
    }
    lowering.lower(trace, program);
    current = {&wanted, &trace, n};
    std::string why;
    if (!run.run(program, wanted.rounds, n, why)) {
      report(why);
      tell();
      return 1;
    }
    ++done;
    if (seconds() >= told + 10) {
      told = seconds();
      tell();
    }
  }
  tell();
  if (done == 0) {
    std::fprintf(stderr, "thread_soak: no program of %s can be run with threads (%llu left out)\n",
                 wanted.config.c_str(), static_cast<unsigned long long>(left_out));
    return 2;
  }
  return 0;
}

}  // namespace
}  // namespace twinwalk::fuzz

int main(int argc, char** argv) {
  twinwalk::fuzz::Wanted wanted;
  CLI::App app{"Runs the mutator's programs on the core with a thread for each vCPU and the host"};
  app.add_option("--config", wanted.config, "configuration, as of twinwalk fuzz")
      ->capture_default_str();
  app.add_option("--seconds", wanted.seconds, "how long")->capture_default_str();
  app.add_option("--programs", wanted.programs, "at most so many programs; 0 is no limit")
      ->capture_default_str();
  app.add_option("--first", wanted.first, "number of the first program")->capture_default_str();
  app.add_option("--rounds", wanted.rounds, "how often each thread goes through its part")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_flag("--as-is", wanted.as_is, "runs the given traces themselves, in turn");
  app.add_option("--out", wanted.out, "folder for the trace of a finding; else it is printed");
  app.add_option("PATH", wanted.paths, "traces to begin with");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  return twinwalk::fuzz::soak(wanted);
}
