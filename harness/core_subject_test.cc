#include "harness/core_subject.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "harness/testing/random_trace.h"
#include "harness/trace/content.h"
#include "harness/trace/parse.h"
#include "harness/trace/print.h"
#include "harness/trace/program.h"

namespace twinwalk {
namespace {

class CoreSubjectTest : public testing::Test {
 protected:
  CoreSubjectTest() : subject(make_core_subject()) {}

  // Runs the operations (without the header) and gives the outcome of the last step.
  Outcome run(const std::string& ops,
              const std::string& machine = "machine core=shadow memory=64M vcpus=1") {
    const auto parsed = parse("walk 1\n" + machine + "\n" + ops);
    EXPECT_TRUE(static_cast<bool>(parsed)) << (parsed.error ? to_text(*parsed.error) : "");
    Lowering().lower(parsed.trace, program);
    subject->run(program, out);
    EXPECT_EQ(out.steps.size(), program.steps.size());
    for (const Outcome& o : out.steps)
      EXPECT_EQ(o.complaint, Complaint::kNone) << out.complaint_text;
    return out.steps.empty() ? Outcome{} : out.steps.back();
  }

  std::unique_ptr<Subject> subject;
  Program program;
  OutcomeStream out;
};

TEST_F(CoreSubjectTest, ReadsWhatIsMapped) {
  const Outcome o = run("map gva=0x400000 gpa=0x5000\naccess read gva=0x400008\n");
  EXPECT_EQ(to_text(o), "ok gpa=0x5008 value=" + std::string([] {
                          char text[32];
                          std::snprintf(text, sizeof text, "0x%llx",
                                        static_cast<unsigned long long>(seed_word(0x5008)));
                          return std::string(text);
                        }()));
  ASSERT_EQ(o.path[0].count, 4);
  for (unsigned i = 0; i < 4; ++i) EXPECT_TRUE(o.path[0].entry[i] & pte::kA);
  EXPECT_FALSE(o.path[0].entry[3] & pte::kD);
}

TEST_F(CoreSubjectTest, StoresReachMemoryAndSetDirty) {
  const Outcome o = run("map gva=0x400000 gpa=0x5000\naccess write gva=0x400008 value=0x1234\n");
  EXPECT_TRUE(o.path[0].entry[3] & pte::kD);
  std::uint64_t word = 0;
  ASSERT_TRUE(subject->read_image(0x5008, word));
  EXPECT_EQ(word, 0x1234u);
  EXPECT_FALSE(subject->read_image(std::uint64_t{1} << 35, word));
}

TEST_F(CoreSubjectTest, Faults) {
  EXPECT_EQ(to_text(run("access write gva=0x400010\n")), "#PF ec=w cr2=0x400010");
  EXPECT_EQ(to_text(run("map gva=0x400000 gpa=0x5000 pte=p\naccess write gva=0x3ffffc cpl=3\n")),
            "#PF ec=w|u cr2=0x3ffffc");
  EXPECT_EQ(to_text(run("map gva=0x400000 gpa=0x5000 pte=p\naccess fetch gva=0x400000 cpl=3\n")),
            "#PF ec=p|u|i cr2=0x400000");
  EXPECT_EQ(run("access read gva=0x800000000000\n").kind, OutcomeKind::kGp);
}

TEST_F(CoreSubjectTest, DevicesAnswerWhereNoMemslotIs) {
  EXPECT_EQ(to_text(run("map gva=0x400000 gpa=0x8000000\naccess read gva=0x400010\n")),
            "mmio read gpa=0x8000010");
  EXPECT_EQ(to_text(run("map gva=0x400000 gpa=0x8000000\naccess rmw gva=0x400010\n")),
            "mmio write gpa=0x8000010");
  EXPECT_EQ(to_text(run("write gpa=0x8000000 value=1\n")), "mmio write gpa=0x8000000");
  EXPECT_EQ(to_text(run("write gpa=0x8000000 value=1 by=host\n")), "refused");
  // Half memory, half device: nothing is stored.
  run("map gva=0x400000 gpa=0x5000\nmap gva=0x401000 gpa=0x8000000\naccess write gva=0x400ffc "
      "value=0x1111111122222222\n");
  EXPECT_EQ(to_text(out.steps.back()), "mmio write gpa=0x8000000");
  std::uint64_t word = 0;
  ASSERT_TRUE(subject->read_image(0x5ff8, word));
  EXPECT_EQ(word, seed_word(0x5ff8));
}

TEST_F(CoreSubjectTest, PageCrossingStoresBothHalves) {
  const Outcome o =
      run("map gva=0x400000 gpa=0x5000\nmap gva=0x401000 gpa=0x9000\n"
          "access write gva=0x400ffc value=0x1111111122222222\n");
  EXPECT_EQ(to_text(o), "ok gpa=0x5ffc,0x9000");
  std::uint64_t word = 0;
  ASSERT_TRUE(subject->read_image(0x9000, word));
  EXPECT_EQ(word & 0xffff'ffff, 0x1111'1111u);
}

TEST_F(CoreSubjectTest, SkipsWhatItCannotDo) {
  EXPECT_EQ(run("mov pkru=1\n").reason, SkipReason::kFeatureNotSupported);
  EXPECT_EQ(run("vm-exit\n").reason, SkipReason::kNestedNotSupported);
  EXPECT_EQ(run("access read gva=0x400000\n", "machine core=bare memory=64M vcpus=1").reason,
            SkipReason::kModeNotSupported);
  std::uint64_t word = 0;
  ASSERT_TRUE(subject->read_image(0x5008, word));  // memory is as at the start
  EXPECT_EQ(word, seed_word(0x5008));
}

TEST_F(CoreSubjectTest, AModuleGoesWithItsMachine) {
  const std::string private_page = "map gva=0x400000 gpa=0x5000\naccess read gva=0x400000\n";
  const std::string module = "machine core=ept memory=64M vcpus=1 tdp=ad|private|ug|external";
  for (const char* next : {"machine core=shadow memory=64M vcpus=1",
                           "machine core=ept memory=64M vcpus=1", module.c_str()}) {
    EXPECT_EQ(run(private_page, module).kind, OutcomeKind::kOk);
    EXPECT_EQ(run(private_page, next).kind, OutcomeKind::kOk) << next;
  }
}

TEST_F(CoreSubjectTest, StartsInTheMachinesMode) {
  const std::string map_and_read = "map gva=0xc0400000 gpa=0x5000\naccess read gva=0xc0400008\n";
  const std::string value = to_text(run("map gva=0x400000 gpa=0x5000\naccess read gva=0x400008\n"));
  for (const char* levels : {" host-levels=3", " host-levels=4", " host-levels=5"}) {
    const std::string machine = std::string("machine core=shadow memory=64M vcpus=1") + levels;
    for (const char* mode : {" mode=32-bit", " mode=pae", " mode=5-level"}) {
      EXPECT_EQ(to_text(run(map_and_read, machine + mode)), value) << levels << mode;
      EXPECT_EQ(out.steps.back().path[0].count, mode[6] == '3' ? 2 : mode[6] == 'p' ? 3 : 5);
    }
    EXPECT_EQ(to_text(run("access read gva=0x5008\n", machine + " mode=none")), value) << levels;
    EXPECT_EQ(out.steps.back().path[0].count, 0);
  }
}

TEST_F(CoreSubjectTest, HostSetsRegistersAtOnceOrNone) {
  EXPECT_EQ(run("sregs cr4=0\n").kind, OutcomeKind::kRefused);
  EXPECT_EQ(run("sregs cr4=0 efer=0\n").kind, OutcomeKind::kDone);
  EXPECT_EQ(to_text(run("sregs cr0=pe efer=0\naccess read gva=0x100005000\n")).substr(0, 14),
            "ok gpa=0x5000 ");
}

TEST_F(CoreSubjectTest, HostEvents) {
  EXPECT_EQ(to_text(run("map gva=0x400000 gpa=0x5000\naccess read gva=0x400000\ninvalidate "
                        "hva=0x7f0000005000 pages=1\n"
                        "access read gva=0x400000\n")),
            "ok gpa=0x5000");
  EXPECT_EQ(to_text(run("map gva=0x400000 gpa=0x5000\naccess write gva=0x400000 value=7\n"
                        "remap hva=0x7f0000005000 pages=1\naccess rmw gva=0x400000 value=1\n")),
            "ok gpa=0x5000 value=0x7");
  EXPECT_EQ(
      to_text(
          run("map gva=0x400000 gpa=0x5000\naccess write gva=0x400000 value=7\n"
              "protect hva=0x7f0000005000 pages=1 writable=0\naccess rmw gva=0x400000 value=1\n")),
      "ok gpa=0x5000 value=0x7");
  EXPECT_EQ(run("invalidate hva=0x1000 pages=1\n").kind, OutcomeKind::kRefused);
  EXPECT_EQ(run("slot-add slot=0 gpa=0x8000000 pages=1 hva=0x7f0010000000\n").kind,
            OutcomeKind::kRefused);
  EXPECT_EQ(run("slot-add slot=1 gpa=0x8000000 pages=1 hva=0x1000\n").kind, OutcomeKind::kRefused);
}

TEST_F(CoreSubjectTest, DirtyLogNamesWhatWasWritten) {
  run("map gva=0x400000 gpa=0x5000\naccess read gva=0x400000\nslot-flags slot=0 flags=log\n"
      "access write gva=0x400000\nwrite gpa=0x7008 value=1\ndirty-get slot=0\n");
  const Outcome& o = out.steps.back();
  ASSERT_EQ(o.kind, OutcomeKind::kDone);
  const std::vector<std::uint64_t> gfns(out.extra.begin() + o.extra_begin,
                                        out.extra.begin() + o.extra_begin + o.extra_count);
  EXPECT_TRUE(std::is_sorted(gfns.begin(), gfns.end()));
  for (const std::uint64_t wanted : {5u, 7u}) {
    EXPECT_NE(std::find(gfns.begin(), gfns.end(), wanted), gfns.end()) << wanted;
  }
  EXPECT_EQ(run("dirty-get slot=0\n").kind, OutcomeKind::kRefused);
}

TEST_F(CoreSubjectTest, InjectedFailuresPass) {
  EXPECT_EQ(
      run("map gva=0x400000 gpa=0x5000\nfail-alloc after=1 count=3\naccess read gva=0x400000\n")
          .kind,
      OutcomeKind::kOk);
}

// The subject's own checks (audit, escapes, frames in use, liveness, leaks) hold on any trace, and
// a second run of the same program gives the same outcomes.
TEST_F(CoreSubjectTest, RandomTracesLeaveNoComplaint) {
  RandomTrace random(11);
  Trace trace;
  Lowering lowering;
  OutcomeStream again;
  unsigned complaints = 0;
  for (unsigned n = 0; n < 1500 && complaints < 3; ++n) {
    RandomTraceOptions options;
    options.operations = 16 + n % 64;
    options.machines = n % 4 != 0;
    options.host_events = n % 3 != 0;
    random.next(options, trace);
    lowering.lower(trace, program);
    subject->run(program, out);
    for (std::size_t i = 0; i < out.steps.size(); ++i) {
      if (out.steps[i].complaint == Complaint::kNone) continue;
      ADD_FAILURE() << "trace " << n << ", op " << program.steps[i].op << ": "
                    << name_of(out.steps[i].complaint) << ": " << out.complaint_text << "\n"
                    << print(trace);
      ++complaints;
      break;
    }
    subject->run(program, again);
    for (std::size_t i = 0; i < out.steps.size(); ++i)
      ASSERT_EQ(to_text(out.steps[i]), to_text(again.steps[i]));
  }
}

// ---- two dimensions

const char* const kMachines[] = {"machine core=ept memory=64M vcpus=2",
                                 "machine core=ept memory=64M vcpus=2 tdp=xo|2m|1g|adv",
                                 "machine core=ept memory=64M vcpus=2 host-levels=5 tdp=ad|mbec",
                                 "machine core=npt memory=64M vcpus=2 vendor=amd",
                                 "machine core=npt memory=64M vcpus=2 vendor=amd host-levels=4"};

TEST_F(CoreSubjectTest, TwoDimensionsRunTheGuestOnItsOwnTables) {
  for (const char* machine : kMachines) {
    const Outcome o =
        run("map gva=0x400000 gpa=0x5000\naccess write gva=0x400008 value=0x12\n"
            "access rmw gva=0x400008 value=0x3\n",
            machine);
    EXPECT_EQ(to_text(o), "ok gpa=0x5008 value=0x12") << machine;
    EXPECT_EQ(o.path[0].entry[3], 0x5067u);
    std::uint64_t word = 0;
    ASSERT_TRUE(subject->read_image(0x5008, word));
    EXPECT_EQ(word, 0x15u);
  }
}

TEST_F(CoreSubjectTest, TwoDimensionsLeaveTheGuestItsFaultsAndItsTlb) {
  for (const char* machine : kMachines) {
    EXPECT_EQ(
        to_text(run("map gva=0x400000 gpa=0x5000 pte=p\naccess write gva=0x400000\n", machine)),
        "#PF ec=p|w cr2=0x400000");
    const std::string moved =
        "map gva=0x400000 gpa=0x5000\naccess read gva=0x400000\nmap gva=0x400000 gpa=0x6000\n";
    EXPECT_EQ(run(moved + "access read gva=0x400000\n", machine).gpa[0], 0x5000u) << machine;
    EXPECT_EQ(run(moved + "invlpg gva=0x400000\naccess read gva=0x400000\n", machine).gpa[0],
              0x6000u);
    EXPECT_EQ(run(moved + "mov cr3=0x100000\naccess read gva=0x400000\n", machine).gpa[0], 0x6000u);
  }
}

TEST_F(CoreSubjectTest, TwoDimensionsAnswerForDevicesAndLogs) {
  for (const char* machine : kMachines) {
    EXPECT_EQ(to_text(run("map gva=0x400000 gpa=0x8000000\naccess write gva=0x400008\n", machine)),
              "mmio write gpa=0x8000008");
    EXPECT_EQ(to_text(run("map gva=0x400000 gpa=0x8000000\naccess read gva=0x400008\n"
                          "slot-add slot=1 gpa=0x8000000 pages=4 hva=0x7f0010000000\n"
                          "access read gva=0x400008 size=1\n",
                          machine))
                  .substr(0, 16),
              "ok gpa=0x8000008")
        << machine;
    const std::string logged = "slot-flags slot=0 flags=log\nmap gva=0x400000 gpa=0x5000\n";
    const Outcome o = run(logged +
                              "dirty-get slot=0\naccess write gva=0x400000\n"
                              "dirty-get slot=0\n",
                          machine);
    const auto begin = out.extra.begin() + o.extra_begin;
    EXPECT_EQ(std::count(begin, begin + o.extra_count, 5u), 1) << machine;
    const Outcome again = run(logged +
                                  "access write gva=0x400000\ndirty-get slot=0\n"
                                  "dirty-get slot=0\n",
                              machine);
    EXPECT_EQ(again.extra_count, 0u) << machine;
  }
}

TEST_F(CoreSubjectTest, TwoDimensionsKnowManualClearPrefaultAndRecovery) {
  const std::string machine = "machine core=ept memory=64M vcpus=1 options=manual-clear|nx-huge";
  EXPECT_EQ(run("slot-flags slot=0 flags=log\nmap gva=0x400000 gpa=0x5000\n"
                "access write gva=0x400000\ndirty-get slot=0\n"
                "dirty-clear slot=0 gpa=0x0 pages=1024\ndirty-get slot=0\n",
                machine)
                .extra_count,
            0u);
  EXPECT_EQ(to_text(run("dirty-clear slot=0 gpa=0x0\n", machine)), "refused");
  EXPECT_EQ(to_text(run("prefault gpa=0x5000 pages=8\nnx-recover pages=4\n", machine)), "done");
}

TEST_F(CoreSubjectTest, OtherVendorsTablesAreNoMachine) {
  EXPECT_EQ(to_text(run("get cr0\n", "machine core=npt memory=64M vcpus=1")),
            "skip mode-not-supported");
  EXPECT_EQ(to_text(run("get cr0\n", "machine core=ept memory=64M vcpus=1 vendor=amd")),
            "skip mode-not-supported");
}

TEST_F(CoreSubjectTest, NamesWhatItsCountersCount) {
  std::vector<std::uint8_t> counters(core_state_counters());
  CoreSubjectOptions options;
  options.state_counters = counters.data();
  subject = make_core_subject(options);
  const auto reached = [&](unsigned part, const std::string& what) {
    const CoreStateNames names = core_state_names().at(part);
    std::size_t i = names.first;
    for (const std::string& o : names.operations) {
      for (const std::string& l : names.levels) {
        for (const std::string& r : names.roles)
          if (counters.at(i++) != 0 &&
              what == std::string(o).append(", ").append(l).append(", ").append(r))
            return true;
      }
    }
    return false;
  };
  run("map gva=0x400000 gpa=0x5000\naccess write gva=0x400000\n");
  EXPECT_TRUE(reached(0, "leaf, level 1, 4-level, indirect"));
  EXPECT_FALSE(reached(1, "leaf, level 1, NPT"));
  run("map gva=0x400000 gpa=0x5000\naccess write gva=0x400000\n",
      "machine core=npt memory=64M vcpus=1 vendor=amd host-levels=4");
  EXPECT_TRUE(reached(1, "leaf, level 1, NPT"));
  EXPECT_FALSE(reached(1, "leaf, level 1, EPT"));
}

}  // namespace
}  // namespace twinwalk
