#include "harness/fuzzing/zoo.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <thread>

#include "harness/fuzzing/atomic_file.h"
#include "harness/fuzzing/config.h"
#include "harness/fuzzing/core_build.h"
#include "harness/fuzzing/interrupts.h"
#include "harness/fuzzing/zoo_finding.h"
#include "harness/fuzzing/zoo_programs.h"
#include "harness/trace/load.h"

namespace twinwalk::fuzz {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kNeutral = "neutral-";
// Of the core; the empty one is the core as it is.
constexpr const char* kNeutralOptions[] = {
    "", "no-prefetch", "no-unsync", "no-large-pages", "extra-flush", "extra-zap", "eager-sync"};
constexpr double kLeastControl = 10;  // seconds

// The configuration in which a bug is looked for, by the trace that shows it.
const char* config_for(const Trace& seed) {
  const bool overlaps = std::any_of(seed.ops.begin(), seed.ops.end(),
                                    [](const Op& op) { return op.point != Point::kNone; });
  switch (seed.machine.core) {
    case Dimension::kEpt:
      return overlaps ? "tdp-smp" : seed.machine.tdp & tdp::kAd ? "ept" : "ept-noad";
    case Dimension::kNpt:
      return "npt";
    default:
      return overlaps ? "smp" : "shadow-any";
  }
}

class Zoo {
 public:
  explicit Zoo(const ZooOptions& options)
      : options_(options),
        folder_(options.zoo.empty() ? TWINWALK_SOURCE_DIR "/corpus/zoo" : options.zoo),
        jobs_(options.jobs ? options.jobs : std::max(1u, std::thread::hardware_concurrency())),
        programs_(options.build.empty() ? work_folder("zoo")
                                        : fs::absolute(options.build).string()) {}

  int run() {
    std::vector<Exhibit> exhibits = list_exhibits(folder_);
    if (!options_.only.empty()) {
      std::erase_if(exhibits, [&](const Exhibit& e) { return e.id != options_.only; });
      if (exhibits.empty()) return fail("no bug '" + options_.only + "' in " + folder_);
    }
    if (std::all_of(exhibits.begin(), exhibits.end(), [](const Exhibit& e) { return e.control; }) &&
        options_.only.empty())
      return fail("no patches in " + folder_);
    std::string why = make_output(options_.out, output_);
    if (why.empty()) why = make_folder(programs_.work());
    if (!why.empty()) return fail(why);
    for (const Exhibit& e : exhibits) {
      if (interrupted()) break;
      why = show(e);
      if (!why.empty()) return fail(why);
    }
    if (options_.only.empty() && !interrupted()) programs_.forget_others();
    why = options_.write_report ? options_.write_report(lines_, output_) : "";
    if (!why.empty()) return fail(why);
    if (interrupted()) std::fprintf(stderr, "twinwalk zoo: interrupted\n");
    if (options_.write_report)
      std::fprintf(options_.json ? stderr : stdout, "%s\n", output_.report().c_str());
    return broken_ ? 2 : all_good_ && !interrupted() ? 0 : 1;
  }

 private:
  static int fail(const std::string& why) {
    std::fprintf(stderr, "twinwalk zoo: %s\n", why.c_str());
    return 2;
  }

  // All its trials. Returns "" or what must end the run: that its result cannot be kept.
  std::string show(const Exhibit& e) {
    ZooResult r;
    r.bug = e.id;
    r.control = e.control;
    std::string programs, config = e.config;
    r.error = prepare(e, programs, config);
    for (; r.repeat < options_.repeats && !interrupted(); ++r.repeat) {
      if (r.error.empty()) hold(e, programs, config, r);
      if (interrupted() && !r.trial.detected()) break;  // says nothing
      std::string why = keep(r);
      if (!why.empty()) return why;
      if (!r.error.empty()) break;
    }
    return {};
  }

  std::string prepare(const Exhibit& e, std::string& programs, std::string& config) {
    if (config.empty()) {
      const ParseResult seed = load_trace(e.walk);
      if (!seed) return to_text(*seed.error);
      config = config_for(seed.trace);
    }
    if (!options_.json) std::fprintf(stderr, "%s: building\n", e.id.c_str());
    return programs_.make(e.patch, programs_.work() + "/" + e.id + ".log", programs);
  }

  void hold(const Exhibit& e, const std::string& programs, const std::string& config,
            ZooResult& r) {
    TrialPlan plan;
    plan.worker = programs + "/shadow_fuzzer";
    plan.config = config;
    plan.folder = fmt::format("{}/{}-{}", output_.workers(), e.id, r.repeat);
    plan.jobs = jobs_;
    plan.seed = 1 + r.repeat * jobs_;
    plan.seconds = e.control ? control_seconds() : options_.seconds;
    plan.own_core_is_judge = !e.patch.empty();
    r.trial = run_trial(plan);
    r.error = r.trial.error;
    // Whatever the machine itself brings is there in each trace.
    if (e.patch.empty() && r.trial.execs) r.trial.reached = r.trial.triggered = true;
    if (!e.control && r.trial.detected()) slowest_ = std::max(slowest_, r.trial.seconds);
    if (!r.error.empty() || !r.trial.detected()) return;
    const ZooFinding finding =
        look_into(programs + "/twinwalk", *find_config(config), r.trial.trace,
                  fmt::format("{}/{}-{}", output_.findings(), e.id, r.repeat));
    r.operations = finding.operations;
    r.rule = finding.rule;
    r.error = finding.error;
  }

  double control_seconds() const {
    if (!options_.only.empty()) return options_.seconds;
    return std::min(options_.seconds, std::max(kLeastControl, slowest_));
  }

  // Each line as soon as it is known, so that a run that is killed loses none.
  std::string keep(const ZooResult& r) {
    const std::string line = to_json(r);
    if (!r.error.empty()) {
      std::fprintf(stderr, "twinwalk zoo: %s: %s\n", r.bug.c_str(), r.error.c_str());
      broken_ = true;
    }
    if (options_.json) {
      std::printf("%s\n", line.c_str());
    } else if (r.error.empty() || r.trial.detected()) {
      std::printf("%-32s %s\n", r.bug.c_str(), story_of(r).c_str());
    }
    std::fflush(stdout);
    all_good_ = all_good_ && is_good(r);
    lines_ += line + '\n';
    return write_atomically(output_.root + "/zoo.jsonl", std::string_view(lines_));
  }

  const ZooOptions& options_;
  std::string folder_;
  unsigned jobs_;
  ZooPrograms programs_;
  Output output_;
  std::string lines_;   // of results
  double slowest_ = 0;  // detection of a bug, in seconds
  bool all_good_ = true, broken_ = false;
};

}  // namespace

std::vector<Exhibit> list_exhibits(const std::string& folder) {
  std::vector<Exhibit> out;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() != ".patch") continue;
    fs::path walk = entry.path();
    walk.replace_extension(".walk");
    const std::string id = walk.stem().string();
    out.push_back({id, entry.path().string(), walk.string(), "", id.starts_with(kNeutral)});
  }
  for (const char* option : kNeutralOptions) {
    const std::string name = option;
    out.push_back({std::string(kNeutral) + (name.empty() ? "nothing" : name), "", "",
                   name.empty() ? "all" : "all+" + name, true});
  }
  std::sort(out.begin(), out.end(), [](const Exhibit& a, const Exhibit& b) {
    return a.control != b.control ? b.control : a.id < b.id;
  });
  return out;
}

int run_zoo(const ZooOptions& options) {
  const Interrupts handlers;
  return Zoo(options).run();
}

}  // namespace twinwalk::fuzz
