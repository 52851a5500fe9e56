#include "harness/cli/sweep_verb.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <string_view>

#include "harness/cli/output.h"
#include "harness/cli/subjects.h"
#include "harness/sweep/sweep.h"
#include "harness/trace/machine.h"
#include "harness/trace/result_line.h"

namespace twinwalk::cli {
namespace {

std::atomic<bool> stop_asked{false};
void ask_to_stop(int) { stop_asked = true; }

bool parse_number(std::string_view text, unsigned& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size();
}

void parse_shard(const std::string& text, sweep::SweepOptions& options) {
  const std::size_t slash = text.find('/');
  const std::string_view all = text;
  if (slash == std::string::npos || !parse_number(all.substr(0, slash), options.shard) ||
      !parse_number(all.substr(slash + 1), options.shards) || options.shard >= options.shards) {
    throw Failure(fmt::format("--shard: found `{}`; allowed: i/n with 0 <= i < n", text));
  }
}

void parse_mode(const std::string& text, sweep::SweepOptions& options) {
  if (text == "all") return;
  for (const Nesting nesting : {Nesting::kEpt, Nesting::kNpt}) {
    if (text != name_of(nesting)) continue;
    options.nesting = nesting;
    return;
  }
  for (const Mode mode : {Mode::kNone, Mode::k32Bit, Mode::kPae, Mode::k4Level, Mode::k5Level}) {
    if (text == name_of(mode)) options.mode = mode;
  }
  if (options.mode) return;
  throw Failure(fmt::format(
      "--mode: found `{}`; allowed: none, 32-bit, pae, 4-level, 5-level, all, ept, npt", text));
}

void show_progress(const sweep::SweepProgress& at) {
  fmt::print(stderr, "\r{:<28} {:>12} cases, {} diverge\x1b[K", at.block, at.cases, at.diverge);
  std::fflush(stderr);
}

ResultLine line_of(const sweep::SweepMismatch& mismatch, const SubjectInfo& info) {
  ResultLine line;
  line.trace = fmt::format("{}: {}", mismatch.block, mismatch.what);
  line.verb = "access";
  line.subject = info.name;
  line.profile = name_of(info.profile);
  line.verdict = name_of(mismatch.verdict.kind);
  line.cls = name_of(mismatch.verdict.divergence);
  line.field = mismatch.verdict.field;
  line.got = mismatch.verdict.got;
  line.allowed = mismatch.verdict.allowed;
  if (mismatch.verdict.rule != nullptr) line.rule = mismatch.verdict.rule->id;
  return line;
}

void print_json(const sweep::SweepResult& result, const SubjectInfo& info) {
  for (const auto& mismatch : result.mismatches) print("{}\n", to_json(line_of(mismatch, info)));
  RunSummary summary;
  for (const auto& block : result.blocks) summary.traces += block.programs;
  summary.ops = result.steps;
  summary.checks = result.cases;
  summary.agree = result.agree;
  summary.diverge = result.diverge;
  summary.skip = result.skip;
  summary.unspecified = result.unspecified;
  summary.unicorn_checks = result.unicorn_checks;
  print("{}\n", to_json(summary));
}

void print_for_people(const sweep::SweepResult& result) {
  for (const auto& block : result.blocks) {
    print("{:<24} {:>12} cases {:>8} classes  {}\n", block.name, block.cases, block.classes,
          paint(Tone::kDim, block.about));
  }
  for (const auto& left : result.left_out) {
    print("{:<24} {:>12} left out: {}\n", "", left.cases, left.reason);
  }
  for (const auto& mismatch : result.mismatches) {
    print("\n{} {}: {}\n  got {}\n  allowed {}\n{}", paint(Tone::kBad, "diverge"),
          name_of(mismatch.verdict.divergence), mismatch.what, mismatch.verdict.got,
          mismatch.verdict.allowed, mismatch.trace);
  }
  print(
      "{} cases: {} agree, {} diverge, {} skip, {} unspecified; {} classes, {} by unicorn, {} of "
      "them disagree, {} known{}\n",
      result.cases, result.agree, result.diverge, result.skip, result.unspecified, result.classes,
      result.unicorn_checks, result.unicorn_disagreements, result.unicorn_known,
      result.stopped ? " (stopped early)" : "");
}

}  // namespace

int run_sweep_verb(const SweepOptionsOfVerb& words) {
  sweep::SweepOptions options;
  parse_shard(words.shard, options);
  parse_mode(words.mode, options);
  options.only = words.block;
  const bool nested = options.nesting != Nesting::kNone;
  const NamedSubject subject = make_subject({nested ? "bare" : "core", "local"});
  const auto unicorn = nested ? nullptr : start_unicorn(parse_references(""));
  options.unicorn = unicorn.get();
  options.stop = &stop_asked;
  const bool terminal = isatty(STDERR_FILENO) != 0;
  if (terminal) options.progress = show_progress;
  std::signal(SIGINT, ask_to_stop);
  const sweep::SweepResult result = run_sweep(*subject.subject, options);
  if (terminal) fmt::print(stderr, "\r\x1b[K");
  if (result.cases == 0 && !result.stopped) {
    throw Failure(fmt::format("--block: found `{}`; there is no such block, or its shard is empty",
                              words.block));
  }
  if (words.json) {
    print_json(result, subject.subject->info());
  } else {
    print_for_people(result);
  }
  return result.clean() ? kExitGood : kExitFound;
}

}  // namespace twinwalk::cli
