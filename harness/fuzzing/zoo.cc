#include "harness/fuzzing/zoo.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <list>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "harness/checker.h"
#include "harness/fuzzing/atomic_file.h"
#include "harness/fuzzing/candidate_store.h"
#include "harness/fuzzing/child.h"
#include "harness/fuzzing/core_build.h"
#include "harness/fuzzing/programs.h"
#include "harness/fuzzing/worker.h"
#include "harness/fuzzing/zoo_finding.h"
#include "harness/own_subject.h"
#include "harness/trace/binary.h"
#include "harness/trace/load.h"

namespace twinwalk::fuzz {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

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
constexpr std::size_t kMaxSource = 16 << 20;

double seconds_since(Clock::time_point from) {
  return std::chrono::duration<double>(Clock::now() - from).count();
}

// Whether this program's own core, which has no seeded bug, diverges on the candidate as well: then
// the bug is not what was detected. In a process of its own, for the candidate may do anything.
bool diverges_without_bug(const std::string& path) {
  std::string bytes;
  if (!read_file(path, kMaxSource, bytes)) return true;
  Child child;
  const bool started = child.call([&] {
    Trace trace;
    decode({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}, trace);
    const std::unique_ptr<Subject> subject = make_own_subject();
    return Checker(*subject).check(trace).divergence == DivergenceClass::kNone ? 0 : 1;
  });
  return !started || !child.wait(10) || child.exit_code() != 0;
}

class Zoo {
 public:
  explicit Zoo(const ZooOptions& options)
      : options_(options),
        folder_(options.zoo.empty() ? TWINWALK_SOURCE_DIR "/corpus/zoo" : options.zoo),
        build_(options.build.empty() ? work_folder("zoo") : fs::absolute(options.build).string()) {}

  int run() {
    std::vector<std::string> bugs = list_bugs(folder_);
    if (!options_.only.empty()) {
      if (std::find(bugs.begin(), bugs.end(), options_.only) == bugs.end()) {
        return fail("no bug '" + options_.only + "' in " + folder_);
      }
      bugs = {options_.only};
    }
    if (bugs.empty()) return fail("no patches in " + folder_);
    bool all = true, broken = false;
    for (const std::string& bug : bugs) {
      const ZooResult r = try_bug(bug);
      if (!r.error.empty()) {
        std::fprintf(stderr, "twinwalk zoo: %s: %s\n", bug.c_str(), r.error.c_str());
        broken = true;
      }
      say(r);
      all = all && found(r);
    }
    return broken ? 2 : all ? 0 : 1;
  }

 private:
  static int fail(const std::string& why) {
    std::fprintf(stderr, "twinwalk zoo: %s\n", why.c_str());
    return 2;
  }

  static std::string story(const ZooResult& r) {
    if (!r.detected) {
      return fmt::format("not detected in {:.0f} s, {} execs ({})", r.seconds, r.execs,
                         r.triggered ? "triggered"
                         : r.reached ? "reached"
                                     : "not reached");
    }
    return fmt::format("detected by {} ({}) after {:.1f} s, {} execs; {} operations, rule {}{}",
                       r.by, r.cls, r.seconds, r.execs, r.operations,
                       r.rule.empty() ? "none" : r.rule,
                       found(r) ? "" : ": NOT SMALL AND EXPLAINED");
  }

  void say(const ZooResult& r) const {
    if (options_.json) {
      std::printf("%s\n", to_json(r).c_str());
    } else if (r.error.empty() || r.detected) {
      std::printf("%-32s %s\n", r.bug.c_str(), story(r).c_str());
    }
    std::fflush(stdout);
  }

  ZooResult try_bug(const std::string& bug) {
    ZooResult r;
    r.bug = bug;
    const ParseResult seed = load_trace(folder_ + "/" + bug + ".walk");
    r.error = seed ? build(bug) : to_text(*seed.error);
    if (seed) config_ = config_for(seed.trace);
    if (r.error.empty()) hunt(r);
    return r;
  }

  std::string build(const std::string& bug) const {
    if (!options_.json) std::fprintf(stderr, "%s: building\n", bug.c_str());
    std::string core;
    std::string why = build_.copy_own_core(core);
    if (!why.empty()) return why;
    const std::string log = build_.work() + "/" + bug + ".log";
    Command patch;
    patch.words = {"patch",
                   "-p1",
                   "--no-backup-if-mismatch",
                   "-d",
                   core,
                   "-i",
                   fs::absolute(folder_ + "/" + bug + ".patch").string()};
    patch.log = log;
    if (!run_command(patch, 60)) return "the patch does not apply; see " + log;
    return build_.build(core, {"shadow_fuzzer", "twinwalk"}, log);
  }

  std::string start(std::list<Worker>& workers, const std::string& run) const {
    const unsigned jobs =
        options_.jobs ? options_.jobs : std::max(1u, std::thread::hardware_concurrency());
    for (unsigned n = 0; n < jobs; ++n) {
      WorkerPlan plan;
      plan.number = n;
      plan.program = build_.program("shadow_fuzzer");
      plan.config = config_;
      plan.corpus = run + "/corpus";
      plan.candidates = run + "/candidates";
      plan.folder = run + "/" + std::to_string(n);
      plan.seed = n + 1;
      workers.emplace_back();
      std::string why = workers.back().start(plan);
      if (!why.empty()) return why;
    }
    return {};
  }

  void hunt(ZooResult& r) {
    const std::string run = build_.work() + "/run/" + r.bug;
    std::error_code error;
    fs::remove_all(run, error);
    for (const char* folder : {"/corpus", "/candidates"}) {
      r.error = make_folder(run + folder);
      if (!r.error.empty()) return;
    }
    std::list<Worker> workers;
    r.error = start(workers, run);
    if (!r.error.empty()) return;
    const auto begin = Clock::now();
    while (!r.detected && seconds_since(begin) < options_.seconds) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      r.error = look(workers, run, r);
      if (!r.error.empty()) return;
    }
    r.seconds = seconds_since(begin);
    for (const Worker& w : workers) {
      r.execs += w.stats().execs;
      r.reached = r.reached || w.stats().canary_reached;
      r.triggered = r.triggered || w.stats().canary_triggered;
    }
    for (Worker& w : workers) w.stop(1);
    if (!r.detected) return;
    const ZooFinding finding =
        look_into(build_.program("twinwalk"), *find_config(config_), r.trace, run + "/finding");
    r.operations = finding.operations;
    r.rule = finding.rule;
    r.error = finding.error;
  }

  std::string look(std::list<Worker>& workers, const std::string& run, ZooResult& r) {
    std::vector<Crash> crashes;
    for (Worker& w : workers) {
      if (!w.tend(crashes)) return w.error();
    }
    DivergenceClass cls = DivergenceClass::kNone;
    for (const Crash& c : crashes) {
      if (diverges_without_bug(c.input)) continue;
      cls = c.divergence;
      r.trace = c.input;
      // Its canaries went with the worker. That the core without the bug survives says as much.
      r.reached = r.triggered = true;
    }
    for (const std::string& path : list_candidates(run + "/candidates")) {
      if (cls != DivergenceClass::kNone) break;
      if (looked_at_.insert(path).second && !diverges_without_bug(path))
        cls = class_of_candidate(r.trace = path);
    }
    if (cls == DivergenceClass::kNone) return {};
    r.detected = true;
    r.cls = name_of(cls);
    r.by = detector_of(cls);
    return {};
  }

  const ZooOptions& options_;
  std::string folder_;
  CoreBuild build_;
  std::string config_;               // of the bug at hand
  std::set<std::string> looked_at_;  // candidates
};

}  // namespace

std::string detector_of(DivergenceClass divergence) {
  switch (divergence) {
    case DivergenceClass::kAuditRmap:
    case DivergenceClass::kAuditParent:
    case DivergenceClass::kAuditUnsync:
    case DivergenceClass::kAuditHash:
    case DivergenceClass::kAuditCount:
    case DivergenceClass::kAuditRole:
    case DivergenceClass::kAuditContent:
    case DivergenceClass::kAuditReserved:
    case DivergenceClass::kAuditWritable:
    case DivergenceClass::kAuditNotifier:
    case DivergenceClass::kAuditDirty:
    case DivergenceClass::kAuditLeak:
    case DivergenceClass::kTableFreedInUse:
      return "audit";
    case DivergenceClass::kSanitizer:
    case DivergenceClass::kTrap:
    case DivergenceClass::kEscape:
      return "sanitizer";
    case DivergenceClass::kLiveness:
    case DivergenceClass::kHang:
      return "liveness";
    case DivergenceClass::kNone:
    case DivergenceClass::kCount:
      return "";
    default:
      return "translation";
  }
}

DivergenceClass class_of_candidate(const std::string& path) {
  const std::string name = fs::path(path).filename().string();
  for (unsigned c = 1; c < static_cast<unsigned>(DivergenceClass::kCount); ++c) {
    const auto cls = static_cast<DivergenceClass>(c);
    const std::string prefix = std::string(name_of(cls)) + '-';
    // "wrong-frame-" must not be taken for a class whose name continues: what follows is the hash.
    if (name.starts_with(prefix) && name.size() == prefix.size() + 8 + kCandidateSuffix.size())
      return cls;
  }
  return DivergenceClass::kNone;
}

bool found(const ZooResult& r) {
  return r.detected && r.operations != 0 && r.operations < kMostOperations && !r.rule.empty();
}

std::string to_json(const ZooResult& r) {
  nlohmann::ordered_json j;
  j["bug"] = r.bug;
  j["reached"] = r.reached;
  j["triggered"] = r.triggered;
  j["detected"] = r.detected;
  j["by"] = r.by;
  j["class"] = r.cls;
  j["seconds"] = r.seconds;
  j["execs"] = r.execs;
  j["operations"] = r.operations;
  j["rule"] = r.rule;
  return j.dump();
}

std::vector<std::string> list_bugs(const std::string& folder) {
  std::vector<std::string> out;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".patch") out.push_back(entry.path().stem().string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

int run_zoo(const ZooOptions& options) { return Zoo(options).run(); }

}  // namespace twinwalk::fuzz
