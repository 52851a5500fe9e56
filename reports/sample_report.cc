#include "reports/sample_report.h"

namespace twinwalk::reports::testing {
namespace {

// What most of the samples are about: a store that INVLPG should have stopped.
constexpr const char *kClass = "missed-fault", *kField = "outcome", *kGot = "ok gpa=0x5000",
                     *kAllowed = "#PF ec=p|w cr2=0x400000";

Finding missed_fault() {
  const WalkLevel root{4, 0x100000, 0, 0x101027, ""}, third{3, 0x101000, 0, 0x102027, ""},
      second{2, 0x102000, 2, 0x103027, ""};
  return {
      .name = "missed-fault-1f3a9c04",
      .cls = kClass,
      .field = kField,
      .got = kGot,
      .allowed = kAllowed,
      .rule = "stale-6",
      .rule_says =
          "INVLPG drops the page number in the current PCID, and all paging-structure "
          "caches of it.",
      .citation = "SDM 3A §\"Operations that Invalidate TLBs and Paging-Structure Caches\"",
      .subject = "core",
      .profile = "kvm",
      .command = "./twinwalk explain findings/missed-fault-0123abcd.walk",
      .trace_text =
          "walk 1\nmachine  core=shadow memory=64M vcpus=1\n"
          "map      gva=0x400000 gpa=0x5000\naccess   write gva=0x400000\n"
          "write    gpa=0x103000 value=0x5000|p|u\ninvlpg   gva=0x400000\n"
          "access   write gva=0x400000\n",
      .trace_line = 7,
      .walks = {{"spec", kAllowed, {root, third, second, {1, 0x103000, 0, 0x5005, "read-only"}}},
                {"core", kGot, {root, third, second, {1, 0x103000, 0, 0x5067, "before INVLPG"}}}},
      .replays = 10,
      .reproduced = 10,
      .hits = 1204,
      .seconds = 3.2,
  };
}

Finding known_one() {
  constexpr const char *kRsvd = "#PF ec=p|rsvd cr2=0x0";
  return {
      .name = "wrong-error-code-00000001",
      .cls = "wrong-error-code",
      .field = "error-code",
      .got = "#PF ec=rsvd cr2=0x0",
      .allowed = kRsvd,
      .rule = "fresh",
      .rule_says = "RSVD implies P & nothing is <left> of it.",
      .citation = "SDM 3A §\"Page-Fault Exceptions\"",
      .subject = "core",
      .profile = "",
      .trace_text =
          "walk 1\nmachine  core=shadow memory=64M vcpus=1\n"
          "# </script><b>not markup</b>\naccess   read gva=0x0\n",
      .trace_line = 4,
      .walks = {{"spec", kRsvd, {{4, 0x100000, 0, 0, ""}}}},
      .is_new = false,
  };
}

// In two dimensions: the data page is another than its EPT entry says.
Finding nested_one() {
  constexpr const char *kRight = "ok gpa=0x3000000", *kWrong = "ok gpa=0x3001000";
  const NestedLines table{
      "gpa 0x102010 is hpa 0x102010",
      {"EPT4 0x141000|r|w|x|a", "EPT3 0x142000|r|w|x|a", "EPT2 r|w|x|wb|ps|a|d"}},
      before{"gpa 0x600000 is hpa 0x3000000",
             {"EPT4 0x141000|r|w|x|a", "EPT3 0x142000|r|w|x|a", "EPT2 0x143000|r|w|x|a",
              "EPT1 0x3000000|r|w|x|wb|a"}};
  NestedLines after = before;
  after.title = "gpa 0x600000 is hpa 0x3001000";
  after.lines[3] = "EPT1 0x3001000|r|w|x|wb|a";
  return {
      .name = "wrong-frame-00000002",
      .cls = "wrong-frame",
      .field = "gpa",
      .got = kWrong,
      .allowed = kRight,
      .rule = "fresh",
      .rule_says = "An access may always do what a walk of the tables as they are now says.",
      .citation = "SDM 3A §\"Hierarchical Paging Structures: an Overview\"",
      .subject = "bare",
      .profile = "architecture",
      .trace_text =
          "walk 1\nmachine  core=bare nested=ept memory=64M vcpus=1\n"
          "access   write gva=0x400000\n",
      .trace_line = 3,
      .walks = {{"spec",
                 kRight,
                 {{2, 0x102000, 2, 0x103027, "", table}, {1, 0x103000, 0, 0x600067, ""}},
                 before},
                {"bare",
                 kWrong,
                 {{2, 0x102000, 2, 0x103027, "", table}, {1, 0x103000, 0, 0x600067, ""}},
                 after}},
      .is_new = false,
  };
}

StateMap states() {
  StateMap s;
  s.title = "Shadow paging";
  s.roles = {"supervisor, WP=1", "supervisor, WP=0", "user", "smep", "smap",
             "direct 2M",        "direct 1G"};
  s.levels = {"level 4", "level 3", "level 2", "level 1"};
  s.operations = {"link",     "unlink",         "install",       "zap",
                  "sync",     "unsync",         "write-protect", "split",
                  "prefetch", "emulated write", "flood",         "reclaim"};
  std::uint64_t seed = 1;
  for (std::size_t i = 0; i < s.roles.size() * s.levels.size() * s.operations.size(); ++i) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    const std::uint64_t n = seed >> 52;
    s.counts.push_back(n < 1500 ? 0 : n < 2300 ? n % 7 : n < 3300 ? n % 300 : n);
  }
  return s;
}

}  // namespace

FuzzReport sample_fuzz_report() {
  FuzzReport r;
  r.title = "shadow-64";
  r.engine = "libfuzzer";
  r.subject = "core 4f1c2ab";
  r.unicorn_version = "2.1.1";
  r.command = "twinwalk fuzz --seconds 60 --jobs 2 --out <here>";
  r.started = "2024-05-01 12:00:00 UTC";
  r.seconds = 60.3;
  r.workers = 2;
  r.execs = 5'871'202;
  r.ops = 187'412'331;
  r.checks = 140'992'871;
  r.unicorn_checks = 1'204'113;
  r.edges = 2314;
  r.mmu_states = 198;
  r.divergences = 1211;
  r.new_divergences = 1;
  for (int i = 0; i <= 60; ++i) {
    const double t = i, wobble = i % 7 * 900.0 - i % 5 * 1100.0;
    r.samples.push_back({t, static_cast<std::uint64_t>(t * 97'000 + (i ? wobble : 0)),
                         static_cast<std::uint64_t>(2314 * t / (t + 2.5))});
  }
  r.states = {states()};
  r.findings = {missed_fault(), known_one(), nested_one()};
  r.known = {{"unicorn-rmw-not-present-w0", "unicorn",
              "RMW on a page that is not present reports W=0.", 311}};
  r.remarks = {"One worker ran with AddressSanitizer and UndefinedBehaviorSanitizer."};
  return r;
}

Results sample_results() {
  Results r;
  r.run = {{"corpus/seed/wp.walk", 3, 0, "access", "core", "kvm", "diverge", kClass, kField, kGot,
            kAllowed, "fresh", ""},
           {"corpus/seed/nested.walk", 1, 0, "ept-map", "core", "kvm", "skip", "", "",
            "skip nested-not-supported", "", "", ""},
           {"corpus/seed/a<b>&'c'.walk", 9, 1, "access", "core", "kvm", "unspecified", "", "cr2",
            "cr2=0x1000", "cr2=0xfff | cr2=0x1000", "crossing", ""}};
  r.summaries = {{63, 912, 801, 798, 1, 1, 1, 640}};
  r.conform = {{"NX", "kvm", "local", "4-level", "pass", "", 4096},
               {"PKU", "kvm", "local", "4-level", "skip", "the host's CPU has no PKU", 0},
               {"reserved bits", "kvm", "qemu-svm", "4-level", "known",
                "RSVD without P: QEMU's walker", 512},
               {"INVPCID", "kvm", "local", "4-level", "fail", "type 1 kept an entry", 64}};
  r.zoo = {{"no-flush-invlpg", "translation", true, true, true, 1.42, 120'331, 0.06, 0.9, false, 0,
            6, "stale-after-flush", "stale-6"},
           {"no-flush-invlpg", "translation", true, true, true, 0.31, 20'112, 0.04, 0.2, false, 1,
            6, "stale-after-flush", "stale-6"},
           {"rmap-skip", "", true, false, false, 60, 5'800'000, 2.5, {}, false, 0, 0, "", ""},
           {"neutral-extra-zap", "", true, true, false, 10, 900'000, {}, {}, true, 0, 0, "", ""}};
  r.mutants = {{"mmu_core/sync.cc:41:7:drop", "entries::drop(vm, ref)", "", "killed", "corpus",
                "stale-after-flush"},
               {"mmu_core/prefetch.cc:9:8:boundary", "<", "<=", "survived", "", ""}};
  r.scores = {{"core", 1, 1, 0, 2, 50, 80}};
  r.bench = {{"spec walk", "ns", "<= 1.5", 24.3, 18.1, 1.34, true},
             {"shadow fault", "ns", "<= 300", 412, 300, 1.37, false},
             {"resident", "MiB", "", 31, 0, 0, {}}};
  const FuzzReport f = sample_fuzz_report();
  r.fuzz = {{f.engine, f.seconds, 97'366.5, f.execs, f.ops, f.checks, f.unicorn_checks, f.edges,
             f.mmu_states, 0, 0}};
  return r;
}

}  // namespace twinwalk::reports::testing
