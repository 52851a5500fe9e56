#include "kvm_runner/known.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <stdexcept>

#include "harness/trace/load.h"
#include "kvm_runner/host.h"
#include "kvm_runner/subjects.h"
#include "kvm_runner/testing/spec_judge.h"

namespace twinwalk {
namespace {

using testing::AnyOf;
using testing::Contains;
using testing::Each;
using testing::IsEmpty;
using testing::Not;

std::string entry(const std::string& when, const std::string& more = "") {
  return R"({"version":1,"entries":[{"id":"x","subject":"kvm","hosts":["h"],"rule":"r","right":"spec","citation":"c",)"
         R"("trace":"t","neighbour":"n","when":)" +
         when + more + "}]}";
}

TEST(KnownDeviations, RefusesWhatItDoesNotUnderstand) {
  for (const std::string& text :
       {std::string("{"), std::string("[]"), std::string(R"({"version":2,"entries":[]})"),
        entry("[]"), entry(R"([{"fact":"colour","is":"red"}])"), entry(R"([{"fact":"verb"}])"),
        entry(R"([{"fact":"verb","is":"mov","not":"x"}])"),
        entry(R"([{"fact":"verb","is":"mov"}])", R"(,"note":"x")")}) {
    EXPECT_THROW(KnownDeviations::parse(text), std::runtime_error) << text;
  }
  EXPECT_EQ(KnownDeviations::parse(entry(R"([{"fact":"verb","is":"mov"}])")).entries().size(), 1u);
}

// A trace's steps, and as many outcomes of which nothing is told yet.
struct Lowered {
  Program program;
  OutcomeStream outcomes;
};
Lowered lowered(const std::string& text) {
  const ParseResult parsed = parse(text, "test");
  EXPECT_TRUE(parsed) << (parsed.error ? to_text(*parsed.error) : "");
  Lowered out;
  Lowering().lower(parsed.trace, out.program);
  out.outcomes.steps.resize(out.program.steps.size());
  return out;
}

// A run in which everything was done and every access completed, but for what `change` says of it.
using Change = std::function<void(Program&, OutcomeStream&, Verdict&)>;
std::string last_fact(std::string_view name, const std::string& text, const Change& change = {}) {
  auto [program, outcomes] = lowered("walk 1\n" + text);
  for (std::size_t i = 0; i < program.steps.size(); ++i) {
    const bool access = program.steps[i].what.verb == Verb::kAccess;
    outcomes.steps[i].kind = access ? OutcomeKind::kOk : OutcomeKind::kDone;
  }
  Verdict verdict;
  if (change) change(program, outcomes, verdict);
  const SubjectInfo info{"kvm", "", Profile::kKvm};
  const auto index = static_cast<std::uint32_t>(program.steps.size() - 1);
  return fact_of({info, program, outcomes, index, verdict}, name);
}

// An access at CPL 3 that fell under `host`'s KVM, judged to have the wrong value.
std::string covered_by(const char* text, const std::string& host,
                       const std::string& subject = "kvm") {
  Program program;
  program.steps.resize(1);
  Op& op = program.steps[0].what;
  op.verb = Verb::kAccess;
  op.gva = 0xffff'8000'0000'0000;
  op.cpl = 3;
  op.given = kCplGiven;
  OutcomeStream outcomes;
  outcomes.steps.resize(1);
  Verdict verdict;
  verdict.divergence = DivergenceClass::kWrongValue;
  const SubjectInfo info{subject, "linux 6 " + host + " x", Profile::kKvm};
  return std::string(KnownDeviations::parse(text).covering({info, program, outcomes, 0, verdict}));
}

TEST(KnownDeviations, AllConditionsSubjectAndHostMustHold) {
  const std::string both = entry(R"([{"fact":"root-index","is":"256"},{"fact":"cpl","is":"3"}])");
  EXPECT_EQ(covered_by(both.c_str(), "h"), "x");
  EXPECT_EQ(covered_by(both.c_str(), "other"), "");
  EXPECT_EQ(covered_by(both.c_str(), "h", "core-kvm"), "");
  EXPECT_EQ(
      covered_by(entry(R"([{"fact":"root-index","is":"256"},{"fact":"cpl","is":"0"}])").c_str(),
                 "h"),
      "");
  EXPECT_EQ(covered_by(entry(R"([{"fact":"class","is":"wrong-value"}])").c_str(), "h"), "x");
  EXPECT_EQ(covered_by(entry(R"([{"fact":"crosses-edge","is":"1"}])").c_str(), "h"), "");
}

TEST(KnownDeviations, LackedCr4BitCountsUntilCr4IsWrittenWithoutIt) {
  auto [program, outcomes] = lowered(
      "walk 1\nmachine core=shadow memory=64M vcpus=2 features=-smep\nmov cr4=pae|smep\n"
      "access read gva=0x0\naccess read gva=0x0 vcpu=1\nmov cr4=pae|pge\naccess read gva=0x0\n");
  const SubjectInfo info{"kvm", "", Profile::kKvm};
  const Verdict verdict;
  std::string facts;
  for (std::uint32_t i = 0; i < program.steps.size(); ++i)
    facts += fact_of({info, program, outcomes, i, verdict}, "lacked-cr4-bit");
  EXPECT_EQ(facts, "11000");
  outcomes.steps[0].kind = OutcomeKind::kGp;  // not taken: the write is still one, the CR4 is not
  EXPECT_EQ(fact_of({info, program, outcomes, 0, verdict}, "lacked-cr4-bit"), "1");
  EXPECT_EQ(fact_of({info, program, outcomes, 1, verdict}, "lacked-cr4-bit"), "0");
}

TEST(KnownDeviations, SregsThatChangeNothingAreTold) {
  const auto fact = [](const char* sregs) {
    auto [program, outcomes] =
        lowered(std::string("walk 1\nmov cr4=pae|pge\n") + sregs + "\naccess read gva=0x400000\n");
    for (Outcome& o : outcomes.steps) o.kind = OutcomeKind::kDone;
    const SubjectInfo info{"kvm", "npt=N", Profile::kKvm, true, {}, {}};
    const Verdict verdict;
    return fact_of({info, program, outcomes, 2, verdict}, "sregs-unchanged");
  };
  EXPECT_EQ(fact("sregs"), "1");
  EXPECT_EQ(fact("sregs cr3=0x100000 cr4=pae|pge"), "1");
  EXPECT_EQ(fact("sregs cr3=0x140000"), "0");
  EXPECT_EQ(fact("sregs cr4=pae"), "0");
  EXPECT_EQ(fact("sregs cr0=pe|et|ne|pg"), "0");
  EXPECT_EQ(fact("mov cr3=0x100000"), "0");  // there is none
}

// Facts of a dirty-get that lacks `gfn`, after a load whose walk went through the table 0x20000.
std::string lost_table_and_ad(const char* tdp, const std::string& version, const char* gfn) {
  auto [program, outcomes] = lowered(std::string("walk 1\nmachine core=ept tdp=") + tdp +
                                     "\naccess read gva=0x400000\ndirty-get slot=0\n");
  Path& path = outcomes.steps[0].path[0];
  path.count = 2;
  path.entry[0] = 0x2000'0027;
  path.entry[1] = 0x3000'0027;
  const SubjectInfo info{"core-vmx", version, Profile::kKvm};
  Verdict verdict;
  verdict.allowed = std::string("gfn ") + gfn + " among them";
  const DivergentStep step{info, program, outcomes, 1, verdict};
  return fact_of(step, "lost-table") + fact_of(step, "ept-ad");
}

TEST(KnownDeviations, ALostTableIsOneOfMapsOrOneThatWasWalked) {
  EXPECT_EQ(lost_table_and_ad("ad", "", "0x20000"), "11");
  EXPECT_EQ(lost_table_and_ad("ad", "", "0x100"), "11");
  EXPECT_EQ(lost_table_and_ad("ad", "", "0x30000"), "01") << "where the leaf leads to";
  EXPECT_EQ(lost_table_and_ad("xo", "", "0x20000"), "10");
  EXPECT_EQ(lost_table_and_ad("ad", "cpu=x ept-vpid=0xf0106114141 misc=0x1", "0x100"), "10");
  EXPECT_EQ(lost_table_and_ad("ad", "cpu=x ept-vpid=0xf0106334141 misc=0x1", "0x100"), "11");
}

TEST(KnownDeviations, PcidsOutsideLongModeAreTold) {
  const auto fact = [](const char* step) {
    auto [program, outcomes] = lowered(std::string("walk 1\n") + step + "\n");
    const SubjectInfo info{"kvm", "", Profile::kKvm};
    const Verdict verdict;
    return fact_of({info, program, outcomes, 0, verdict}, "sregs-pcide");
  };
  EXPECT_EQ(fact("sregs cr4=pae|pcide efer=nxe"), "1");
  EXPECT_EQ(fact("sregs cr4=pae|pcide"), "0");
  EXPECT_EQ(fact("sregs cr4=pae efer=nxe"), "0");
  EXPECT_EQ(fact("mov cr4=pae|pcide"), "0");
}

// Of the last step, where accesses before came to a device's page and everything else was done.
std::string remembered(const std::string& body, std::uint64_t last = 0xfee0'0010) {
  auto [program, outcomes] = lowered("walk 1\nmachine core=shadow memory=64M vcpus=2\n" + body +
                                     "access write gva=0x400010\n");
  for (std::size_t i = 0; i < program.steps.size(); ++i) {
    if (program.steps[i].what.verb != Verb::kAccess) continue;
    outcomes.steps[i].kind = OutcomeKind::kMmio;
    outcomes.steps[i].gpa[0] = 0xfee0'0000;
  }
  outcomes.steps.back().gpa[0] = last;
  const auto index = static_cast<std::uint32_t>(program.steps.size() - 1);
  const SubjectInfo info{"kvm", "", Profile::kKvm};
  return fact_of({info, program, outcomes, index, {}}, "device-remembered");
}

TEST(KnownDeviations, ADeviceIsRememberedUntilSomethingInvalidatesIt) {
  const std::string load = "access read gva=0x400000\n";
  EXPECT_EQ(remembered(load), "1");
  EXPECT_EQ(remembered(""), "0");
  EXPECT_EQ(remembered("access read gva=0x401000\n"), "0");
  EXPECT_EQ(remembered("access read gva=0x400000 vcpu=1\n"), "0");
  EXPECT_EQ(remembered(load, 0xfee0'1000), "0");
  EXPECT_EQ(remembered(load + "write gpa=0x103000 value=0\ninvlpg gva=0x401000\n"), "1");
  EXPECT_EQ(remembered(load + "invlpg gva=0x400000\n"), "0");
  EXPECT_EQ(remembered(load + "mov cr3=0x100000\n"), "0");
  EXPECT_EQ(remembered(load + "invpcid type=0 gva=0x401000\n"), "1");
  EXPECT_EQ(remembered(load + "invpcid type=0 gva=0x400000\n"), "0");
  EXPECT_EQ(remembered(load + "invpcid type=2\n"), "0");
  EXPECT_EQ(remembered(load + "sregs\n"), "0");
}

TEST(KnownDeviations, WhatIsKeptOverAFaultWasThereBefore) {
  const auto fact = [](const std::string& body, const std::vector<std::uint32_t>& faults,
                       std::uint64_t error_code = 0) {
    auto [program, outcomes] = lowered("walk 1\n" + body + "access read gva=0x400008\n");
    for (Outcome& o : outcomes.steps) o.kind = OutcomeKind::kOk;
    for (const std::uint32_t i : faults) {
      outcomes.steps[i].kind = OutcomeKind::kPageFault;
      outcomes.steps[i].error_code = static_cast<std::uint32_t>(error_code);
    }
    const auto index = static_cast<std::uint32_t>(program.steps.size() - 1);
    const SubjectInfo info{"kvm", "", Profile::kKvm};
    return fact_of({info, program, outcomes, index, {}}, "kept-over-fault");
  };
  const std::string load = "access read gva=0x400000\n", user = "access read gva=0x400000 cpl=3\n";
  EXPECT_EQ(fact(load + user, {1}), "1");
  EXPECT_EQ(fact(load + user, {}), "0") << "no fault";
  EXPECT_EQ(fact(user, {0}), "0") << "nothing was cached";
  EXPECT_EQ(fact("access read gva=0x401000\n" + user, {1}), "0");
  EXPECT_EQ(fact(load + user + load, {1, 2}), "1");
  EXPECT_EQ(fact(load + user + load, {1}), "0") << "it was walked again";
  EXPECT_EQ(fact(load + user + "invlpg gva=0x400000\n", {1}), "0");
  const std::string rmw = "access rmw gva=0x400000\n";
  EXPECT_EQ(fact(rmw, {0}), "0") << "not of a store that is denied";
  EXPECT_EQ(fact(rmw, {0}, pfec::kP | pfec::kW), "1");
  EXPECT_EQ(fact(user, {0}, pfec::kP | pfec::kW), "0");
}

TEST(KnownDeviations, ADeniedStoreIsAFaultOfAPresentPage) {
  const auto fact = [](const char* allowed) {
    Program program;
    program.steps.resize(1);
    OutcomeStream outcomes;
    outcomes.steps.resize(1);
    const SubjectInfo info{"kvm", "", Profile::kKvm};
    Verdict verdict;
    verdict.allowed = allowed;
    return fact_of({info, program, outcomes, 0, verdict}, "denied-store");
  };
  EXPECT_EQ(fact("#PF ec=p|w cr2=0x0"), "1");
  EXPECT_EQ(fact("#PF ec=p|w|u cr2=0x0"), "1");
  EXPECT_EQ(fact("#PF ec=w cr2=0x0"), "0");
  EXPECT_EQ(fact("#PF ec=p|w|rsvd cr2=0x0"), "0");
  EXPECT_EQ(fact("#PF ec=p cr2=0x0"), "0");
  EXPECT_EQ(fact("#NPF code=p|w gpa=0x0"), "0");
  EXPECT_EQ(fact("ok gpa=0x0"), "0");
}

TEST(KnownDeviations, AReservedBitIsToldByWhatWasAllowed) {
  const auto fact = [](const char* allowed) {
    return last_fact(
        "allowed-rsvd", "access read gva=0x0\n",
        [allowed](Program&, OutcomeStream&, Verdict& verdict) { verdict.allowed = allowed; });
  };
  EXPECT_EQ(fact("#PF ec=p|rsvd cr2=0x0"), "1");
  EXPECT_EQ(fact("#PF ec=p cr2=0x0"), "0");
  EXPECT_EQ(fact("ok gpa=0x0"), "0");
}

TEST(KnownDeviations, EtIsClearWhereTheHostLeftItSo) {
  const auto fact = [](const std::string& body, std::uint64_t got) {
    auto [program, outcomes] = lowered("walk 1\n" + body + "get cr0\n");
    for (Outcome& o : outcomes.steps) o.kind = OutcomeKind::kDone;
    outcomes.steps.back().value = got;
    const SubjectInfo info{"kvm", "", Profile::kKvm};
    Verdict verdict;
    verdict.allowed = "0x10";
    const auto index = static_cast<std::uint32_t>(program.steps.size() - 1);
    return fact_of({info, program, outcomes, index, verdict}, "et-clear");
  };
  EXPECT_EQ(fact("sregs cr0=0 efer=0\n", 0), "1");
  EXPECT_EQ(fact("sregs cr0=0 efer=0\n", 1), "0");
  EXPECT_EQ(fact("sregs cr0=et efer=0\n", 0), "0");
  EXPECT_EQ(fact("sregs cr0=0 efer=0\nmov cr0=0\n", 0), "0");
}

// Whether an entry with these conditions covers an access that ended so.
bool covers(Complaint complaint, DivergenceClass divergence, const std::string& when) {
  const KnownDeviations known = KnownDeviations::parse(entry(when));
  Program program;
  program.steps.resize(1);
  program.steps[0].what.verb = Verb::kAccess;
  OutcomeStream outcomes;
  outcomes.steps.resize(1);
  outcomes.steps[0].complaint = complaint;
  const SubjectInfo info{"kvm", "h", Profile::kKvm};
  Verdict verdict;
  verdict.divergence = divergence;
  return known.covering({info, program, outcomes, 0, verdict}) == "x";
}

TEST(KnownDeviations, OfComplaintsOnlyOneThatIsNamedIsCovered) {
  EXPECT_TRUE(covers(Complaint::kLiveness, DivergenceClass::kLiveness,
                     R"([{"fact":"verb","is":"access"},{"fact":"class","is":"liveness"}])"));
  EXPECT_FALSE(covers(Complaint::kLiveness, DivergenceClass::kLiveness,
                      R"([{"fact":"verb","is":"access"}])"));
}

TEST(KnownDeviations, OfImagesOnlyOnesThatAreNamedAreCovered) {
  EXPECT_TRUE(covers(Complaint::kNone, DivergenceClass::kWrongImage,
                     R"([{"fact":"class","is":"wrong-image"}])"));
  EXPECT_FALSE(
      covers(Complaint::kNone, DivergenceClass::kWrongImage, R"([{"fact":"verb","is":"access"}])"));
}

TEST(KnownDeviations, EveryWordOfAHostMustBeInTheVersion) {
  std::string both = entry(R"([{"fact":"cpl","is":"3"}])");
  both.replace(both.find(R"("h")"), 3, R"("a=1 h","b")");
  EXPECT_EQ(covered_by(both.c_str(), "h"), "");
  EXPECT_EQ(covered_by(both.c_str(), "h a=1"), "x");
  EXPECT_EQ(covered_by(both.c_str(), "h a=12"), "");
  EXPECT_EQ(covered_by(both.c_str(), "b"), "x");
}

// A fact of every step of a trace of a PAE machine. Everything was done and every walk went by
// PDPTE 0 as it is in memory, but for what `refuse` says of steps.
std::string facts(std::string_view name, const std::string& body,
                  const std::vector<std::uint32_t>& refuse = {}, std::uint64_t shown = 0) {
  auto [program, outcomes] =
      lowered("walk 1\nmachine core=shadow memory=64M vcpus=2 mode=pae\n" + body);
  for (std::size_t i = 0; i < program.steps.size(); ++i) {
    if (shown == 0 || program.steps[i].what.verb != Verb::kAccess) continue;
    outcomes.steps[i].path[0].count = 1;
    outcomes.steps[i].path[0].entry[0] = shown;
  }
  for (const std::uint32_t i : refuse) outcomes.steps[i].kind = OutcomeKind::kGp;
  const SubjectInfo info{"kvm", "", Profile::kKvm};
  Verdict verdict;
  verdict.field = "path";
  verdict.got = "ok entry=0x101021 at gpa=0x100000";
  verdict.allowed = "entry=0x101001";
  std::string all;
  for (std::uint32_t i = 0; i < program.steps.size(); ++i)
    all += fact_of({info, program, outcomes, i, verdict}, name);
  return all;
}

TEST(KnownDeviations, AChangedPdpteIsOneThatNoRegisterWriteHasLoaded) {
  const std::string store = "write gpa=0x100000 value=0x101001\n", load = "mov cr3=0x100000\n",
                    use = "access read gva=0x0\n", other = "access read gva=0x40000000\n";
  EXPECT_EQ(facts("pdpte-changed", store + use + other + load + use), "01000");
  EXPECT_EQ(facts("pdpte-changed", store + load + "access read gva=0x0 vcpu=1\n"), "001");
  EXPECT_EQ(facts("pdpte-changed", store + load + store + use), "0000");
  // WP loads none, PGE does; a write that is refused loads nothing.
  EXPECT_EQ(facts("pdpte-changed", store + "mov cr0=pe|et|ne|pg\n" + use), "001");
  EXPECT_EQ(facts("pdpte-changed", store + "mov cr4=pae|pge\n" + use), "000");
  EXPECT_EQ(facts("pdpte-changed", store + load + use, {1}), "001");
  EXPECT_EQ(facts("pdpte-changed", store + load + "invalidate hva=0x7f0000100000\n" + use), "0001");
}

TEST(KnownDeviations, APdpteAtCr0IsOneThatAWriteOfCr0FindsChanged) {
  const std::string store = "write gpa=0x100000 value=0x101001\n", wp = "mov cr0=pe|et|ne|pg\n",
                    use = "access read gva=0x0\n", other = "access read gva=0x40000000\n";
  EXPECT_EQ(facts("pdpte-at-cr0", store + use + wp + use + other), "00010");
  EXPECT_EQ(facts("pdpte-at-cr0", wp + store + use), "000");
  EXPECT_EQ(facts("pdpte-at-cr0", store + wp + "mov cr3=0x100000\n" + use), "0000");
  EXPECT_EQ(facts("pdpte-at-cr0", store + "mov cr0=pe|et|ne|wp|cd|pg\n" + use), "000");
  EXPECT_EQ(facts("pdpte-at-cr0", store + wp + "access read gva=0x0 vcpu=1\n"), "000");
  EXPECT_EQ(facts("pdpte-at-cr0", store + wp + use, {1}), "000");
}

TEST(KnownDeviations, AReservedPdpteIsPresentAndCountsForItsOwnRoot) {
  const std::string load = "mov cr3=0x100000\n", use = "access read gva=0x0\n";
  EXPECT_EQ(facts("pdpte-reserved", "write gpa=0x100000 value=0x101003\n" + load + use), "011");
  EXPECT_EQ(facts("pdpte-reserved", "write gpa=0x100000 value=0x101002\n" + load + use), "000");
  EXPECT_EQ(facts("pdpte-reserved", "write gpa=0x100018 value=0x101003\n" + load + use), "010");
  EXPECT_EQ(facts("pdpte-reserved", "write gpa=0x140000 value=0x101003\n" + load + use), "000");
  // The other name of its page is a memslot's.
  EXPECT_EQ(facts("pdpte-reserved",
                  "slot-add slot=1 gpa=0x80000000 pages=1 hva=0x7f0000104000\n"
                  "write gpa=0x104000 value=0x101003\nmov cr3=0x80000000\n"),
            "001");
  // An A that the walk has set is known by another name.
  const std::string walked = "write gpa=0x100000 value=0x101001\n" + use + use + load;
  EXPECT_EQ(facts("pdpte-reserved", walked, {}, 0x101021), "0001");
  EXPECT_EQ(facts("pdpte-walked", walked, {}, 0x101021), "0110");
  EXPECT_EQ(facts("pdpte-walked", "write gpa=0x100000 value=0x101021\n" + use, {}, 0x101021), "00");
}

// A subject tells of a store where a word changed; this one changes the next word alone.
TEST(KnownDeviations, AStoreWhoseLandingIsNotToldWentWhereItsPathLeads) {
  auto [program, outcomes] = lowered(
      "walk 1\nmachine core=shadow memory=64M mode=pae\nwrite gpa=0x100000 value=0x102001\n"
      "access write gva=0x100004 value=0x100000000\nmov cr3=0x100000\n");
  outcomes.steps[0].kind = OutcomeKind::kDone;
  outcomes.steps[2].kind = OutcomeKind::kGp;
  Outcome& store = outcomes.steps[1];
  store.kind = OutcomeKind::kOk;
  store.path[0].count = 2;
  store.path[0].entry[0] = 0x102001;
  store.path[0].entry[1] = pte::kP | pte::kW | pte::kA | pte::kD | pte::kPs;
  const SubjectInfo info{"kvm", "", Profile::kKvm};
  const auto fact = [&] { return fact_of({info, program, outcomes, 2, {}}, "pdpte-reserved"); };
  EXPECT_EQ(fact(), "1");  // the second one is present now, and the rest of it is no address
  store.kind = OutcomeKind::kPageFault;
  EXPECT_EQ(fact(), "0");
}

// The path that an outcome shows is one of after the access.
TEST(KnownDeviations, APdpteThatItsOwnAccessStoresToIsTheOneOfBefore) {
  auto [program, outcomes] = lowered(
      "walk 1\nmachine core=shadow memory=64M mode=pae\nwrite gpa=0x100000 value=0x101021\n"
      "access write gva=0x0 value=0x102001\n");
  outcomes.steps[0].kind = OutcomeKind::kDone;
  outcomes.steps[1].path[0].count = 1;
  outcomes.steps[1].path[0].entry[0] = 0x102001;
  const SubjectInfo info{"kvm", "", Profile::kKvm};
  const auto fact = [&] { return fact_of({info, program, outcomes, 1, {}}, "pdpte-reserved"); };
  outcomes.steps[1].gpa[0] = 0x100000;
  EXPECT_EQ(fact(), "1");
  outcomes.steps[1].gpa[0] = 0x100008;
  EXPECT_EQ(fact(), "0");
}

TEST(KnownDeviations, ARefusedWriteCountsUntilThatRegisterIsWritten) {
  const std::string body =
      "write gpa=0x140000 value=0x101003\nmov cr3=0x140000\naccess read gva=0x0\n"
      "mov cr4=pae|pge\naccess read gva=0x0 vcpu=1\nmov cr3=0x100000\naccess read gva=0x0\n";
  EXPECT_EQ(facts("refused-for-pdptes", body, {1}), "0011010");
  EXPECT_EQ(facts("refused-for-pdptes", body), "0000000");
  const std::string reads =
      "write gpa=0x140000 value=0x101003\nmov cr3=0x140000\nget cr3\n"
      "get cr4\nslot-flags slot=0 flags=log\ndirty-get slot=0\n";
  EXPECT_EQ(facts("refused-for-pdptes", reads, {1}), "001000");
}

TEST(KnownDeviations, AnAccessedPdpteDiffersInThatBitOfItsOwnRoot) {
  EXPECT_EQ(facts("pdpte-accessed", "access read gva=0x0\nmov cr3=0x140000\naccess read gva=0x0\n"),
            "110");
  EXPECT_EQ(facts("pdpte-accessed",
                  "slot-add slot=1 gpa=0x80000000 pages=1 hva=0x7f0000100000\n"
                  "mov cr3=0x80000000\naccess read gva=0x0\n"),
            "111");
}

TEST(KnownDeviations, ADirectoryEntryHasPsUntilTheGuestTakesItAway) {
  const std::string start = "write gpa=0x100004 value=0x400087 size=4\n",
                    use = "access read gva=0x400000\n", other = "access read gva=0x800000\n",
                    clear = "write gpa=0x100004 value=0x102007 size=4", host = " by=host\n",
                    pat = "write gpa=0x102000 value=0x5087 size=4\n";
  const auto fact = [](const std::string& text) {
    return last_fact("directory-ps", "machine mode=32-bit\n" + text);
  };
  EXPECT_EQ(fact(start + use), "1");
  EXPECT_EQ(fact(start + use + clear + host + use), "1");
  EXPECT_EQ(fact(start + use + clear + "\n" + use), "0");
  EXPECT_EQ(fact(start + use + clear + host + clear + "\n" + use), "1") << "it changes nothing";
  EXPECT_EQ(fact(start + other + clear + host + use), "0") << "nobody went by it";
  EXPECT_EQ(fact(start + use + clear + host + other), "0");
  EXPECT_EQ(fact(pat + start + clear + "\n" + use), "0") << "bit 7 of a page table's entry";
}

TEST(KnownDeviations, WalkedXdIsOneThatAnAccessWithNxeWentBy) {
  const std::string map = "machine vcpus=2\nmap gva=0x400000 gpa=0x5000 pte=p|xd\n",
                    off = "mov efer=lme\n", use = "access read gva=0x400000\n",
                    elsewhere = "access read gva=0x400000 vcpu=1\n";
  const auto fact = [](const std::string& text) { return last_fact("walked-xd", text); };
  EXPECT_EQ(fact(map + off + elsewhere + use), "1");
  EXPECT_EQ(fact(map + use + off + use), "1");
  EXPECT_EQ(fact(map + off + use), "0");
  EXPECT_EQ(fact(map + off + use + use), "0") << "without NXE";
  EXPECT_EQ(fact(map + off + elsewhere + "access read gva=0x401000\n"), "0");
}

TEST(KnownDeviations, AStraddledEntryIsTheSecondOfAStoreOfFourBytes) {
  const std::string map = "map gva=0x8000001000 gpa=0x5000\n",
                    use = "access read gva=0x8000001000\n";
  const auto fact = [&](const std::string& store) {
    return last_fact("straddled-entry", map + store + "\n" + use);
  };
  EXPECT_EQ(fact("write gpa=0x100006 value=0x10000000 size=4"), "1");
  EXPECT_EQ(fact("write gpa=0x100006 value=0x10000000 size=8"), "0");
  EXPECT_EQ(fact("write gpa=0x100004 value=0x1000 size=4"), "0");
  EXPECT_EQ(fact("write gpa=0x100008 value=0x101007 size=4"), "0");
  EXPECT_EQ(fact("write gpa=0x10000e value=0x10000000 size=4"), "0") << "its first";
  EXPECT_EQ(fact("write gpa=0x100006 value=0x10000000 size=4 by=host"), "0");
  EXPECT_EQ(fact("write gpa=0x100006 value=0x10000000 size=4\nwrite gpa=0x100008 value=0x101007"),
            "0");
}

TEST(KnownDeviations, WhatCpl0StoredWithoutWpIsKnownByItsPath) {
  const auto fact = [](const std::string& between, std::uint64_t leaf, const char* store) {
    return last_fact("wp0-stored",
                     std::string("mov cr0=pe|et|ne|pg\n") + store + "\n" + between +
                         "access read gva=0x400008\n",
                     [leaf](Program&, OutcomeStream& out, Verdict&) {
                       Path& path = out.steps[1].path[0];
                       path.count = 2;
                       path.entry[0] = pte::kP | pte::kW | pte::kU;
                       path.entry[1] = leaf;
                     });
  };
  constexpr std::uint64_t kReadOnly = pte::kP | pte::kU;
  const char* const store = "access write gva=0x400000";
  EXPECT_EQ(fact("", kReadOnly, store), "1");
  EXPECT_EQ(fact("", kReadOnly | pte::kW, store), "0");
  EXPECT_EQ(fact("", pte::kP, store), "0");
  EXPECT_EQ(fact("", kReadOnly, "access read gva=0x400000"), "0");
  EXPECT_EQ(fact("", kReadOnly, "access write gva=0x400000 cpl=3"), "0");
  EXPECT_EQ(fact("invlpg gva=0x400000\n", kReadOnly, store), "0");
}

TEST(KnownDeviations, AFormerWayLeadsToWhatIsThereNow) {
  const std::string begin =
      "map gva=0x400000 gpa=0x5000\nwrite gpa=0x5008 value=0x1111\n"
      "write gpa=0x6008 value=0x2222\naccess read gva=0x400000\n"
      "map gva=0x400000 gpa=0x6000\n";
  const auto fact = [](const std::string& text, std::uint64_t value) {
    return last_fact("loads-by-former-way", text, [value](Program&, OutcomeStream& out, Verdict&) {
      out.steps.back().value = value;
    });
  };
  const std::string use = "access rmw gva=0x400008\n";
  EXPECT_EQ(fact(begin + use, 0x1111), "1");
  EXPECT_EQ(fact(begin + use, 0x2222), "0") << "that of now";
  EXPECT_EQ(fact(begin + "write gpa=0x5008 value=0x3333\n" + use, 0x3333), "1");
  EXPECT_EQ(fact(begin + "write gpa=0x5008 value=0x3333\n" + use, 0x1111), "0");
  EXPECT_EQ(fact(begin + "invlpg gva=0x400000\n" + use, 0x1111), "0");
}

TEST(KnownDeviations, AValueThatLacksDIsTheLeafItself) {
  const auto fact = [](const char* leaf) {
    return last_fact("value-lacks-d",
                     std::string("map gva=0x400000 gpa=") + leaf + "\naccess rmw gva=0x400000\n",
                     [](Program&, OutcomeStream&, Verdict& verdict) {
                       verdict.field = "value";
                       verdict.got = "ok value=0x103027";
                       verdict.allowed = "ok gpa=0x103000 value=0x103067";
                     });
  };
  EXPECT_EQ(fact("0x103000"), "1") << "the page table at 0x103000 maps itself";
  EXPECT_EQ(last_fact("value-lacks-d",
                      "map gva=0x400000 gpa=0x5000\nmap gva=0x600000 gpa=0x103000\n"
                      "access rmw gva=0x600000\n",
                      [](Program&, OutcomeStream&, Verdict& verdict) {
                        verdict.field = "value";
                        verdict.got = "ok value=0x5027";
                        verdict.allowed = "ok gpa=0x103000 value=0x5067";
                      }),
            "0")
      << "another page's leaf";
}

constexpr const char* kHypervisor =
    "machine core=bare nested=npt memory=64M vendor=amd host-levels=4\n"
    "npt-map ngpa=0x0 gpa=0x0 size=2M\nnpt-map ngpa=0x40001000 gpa=0x0\nvm-enter\n";

TEST(KnownDeviations, ANestedTableIsOneThatAWalkHasGoneThrough) {
  const auto fact = [](const std::string& more) {
    return last_fact("npf-at-nested-table", kHypervisor + more + "access read gva=0x400000\n",
                     [](Program&, OutcomeStream& out, Verdict&) {
                       out.steps.back().kind = OutcomeKind::kNestedFault;
                       out.steps.back().gpa[0] = 0x143000;
                     });
  };
  // ngpa 0x40001000 goes by the nested table at 0x143000.
  const std::string map = "map gva=0x800000 gpa=0x40001000\n";
  EXPECT_EQ(fact(map + "access read gva=0x800000\n"), "1");
  EXPECT_EQ(fact(map), "0") << "nobody has walked there";
}

// A store at the end of the page at `gpa` has a fault in the next page.
std::string torn(const std::string& before, const char* gpa, const std::string& after,
                 const Change& change = {}) {
  const std::string store = "access write gva=0x400ffe value=0x1234567812345678\n";
  return last_fact("torn-table-word", before + "map gva=0x400000 gpa=" + gpa + "\n" + store + after,
                   [&](Program& program, OutcomeStream& out, Verdict& verdict) {
                     for (std::size_t i = 0; i < program.steps.size(); ++i) {
                       if (program.steps[i].what.gva != 0x400ffe) continue;
                       out.steps[i].kind = OutcomeKind::kPageFault;
                       out.steps[i].cr2 = 0x401000;
                     }
                     if (change) change(program, out, verdict);
                   });
}

TEST(KnownDeviations, ATornTableWordIsFoundInTheImageAndOnItsOwnWay) {
  const auto differs_at = [](const char* gpa) {
    return [gpa](Program&, OutcomeStream&, Verdict& verdict) {
      verdict.field = "image";
      verdict.got = std::string("0x5678000000000000 at gpa ") + gpa;
      verdict.allowed = "0x0";
    };
  };
  EXPECT_EQ(torn("", "0x103000", "", differs_at("0x103ff8")), "1");
  EXPECT_EQ(torn("", "0x103000", "", differs_at("0x103ff0")), "0") << "another word";
  EXPECT_EQ(torn("", "0x6000", "", differs_at("0x6ff8")), "0") << "no table";
  // Entry 511 of the page table, by which the second store goes.
  EXPECT_EQ(torn("", "0x103000", "access read gva=0x5ff000\n"), "1");
  EXPECT_EQ(torn("", "0x103000", "access read gva=0x5fe000\n"), "0");
  EXPECT_EQ(torn("", "0x6000", "access read gva=0x5ff000\n"), "0");
}

TEST(KnownDeviations, ATornNestedTableWordIsOne) {
  const std::string before = std::string(kHypervisor) +
                             "map gva=0x800000 gpa=0x40001000\naccess read gva=0x800000\n",
                    use = "access read gva=0x400ff8\n";
  const auto differs = [](Program&, OutcomeStream&, Verdict& verdict) {
    verdict.field = "value";
    verdict.got = "ok value=0x0";
    verdict.allowed = "ok gpa=0x143ff8 value=0x1";
  };
  EXPECT_EQ(torn(before, "0x143000", use, differs), "1");
  EXPECT_EQ(torn(before, "0x102000", use, differs), "0") << "the guest's own is not shadowed";
}

TEST(KnownDeviations, APdpteIsKnownByItsAWithPagingOff) {
  const auto fact = [](const std::string& between) {
    return last_fact(
        "pdpte-accessed",
        "machine mode=pae\nmap gva=0x0 gpa=0x5000\naccess read gva=0x0\n" + between +
            "mov cr0=pe|et|ne|wp\naccess read gva=0x100000\n",
        [](Program& program, OutcomeStream& out, Verdict& verdict) {
          for (std::size_t i = 0; i < program.steps.size(); ++i) {
            if (program.steps[i].what.gva != 0 || program.steps[i].what.verb != Verb::kAccess)
              continue;
            out.steps[i].path[0].count = 1;
            out.steps[i].path[0].entry[0] = 0x101021;
          }
          verdict.field = "value";
          verdict.got = "ok value=0x101021";
          verdict.allowed = "ok gpa=0x100000 value=0x101001";
        });
  };
  EXPECT_EQ(fact(""), "1");
  EXPECT_EQ(fact("write gpa=0x100000 value=0x101001\n"), "0")
      << "what a walk has set was overwritten";
}

TEST(KnownDeviations, ARmwBesideADeviceIsTheOneThatCameThere) {
  const auto fact = [](const char* access, OutcomeKind kind, const char* gpa) {
    return last_fact("rmw-beside-device",
                     std::string("map gva=0x400000 gpa=0x5000\naccess ") + access +
                         " gva=0x400000\naccess read gva=0x600000\n",
                     [&](Program& program, OutcomeStream& out, Verdict& verdict) {
                       out.steps[program.steps.size() - 2].kind = kind;
                       verdict.field = "image";
                       verdict.got = std::string("0x1 at gpa ") + gpa;
                       verdict.allowed = "0x0";
                     });
  };
  EXPECT_EQ(fact("rmw", OutcomeKind::kMmio, "0x5000"), "1");
  EXPECT_EQ(fact("rmw", OutcomeKind::kMmio, "0x5008"), "0");
  EXPECT_EQ(fact("rmw", OutcomeKind::kOk, "0x5000"), "0");
  EXPECT_EQ(fact("write", OutcomeKind::kMmio, "0x5000"), "0");
}

// The access of step 3 goes by a PDPTE that no write of a register has loaded, and by the page
// table at 0x104000 therefore.
TEST(KnownDeviations, ATrailIsOfFlagsOrOfStores) {
  const auto fact = [](const std::string& after, const char* got, const char* at = "0x5000",
                       const char* access = "write gva=0x8") {
    return last_fact("pdpte-trail",
                     std::string("machine mode=pae\nwrite gpa=0x100000 value=0x103001\n"
                                 "mov cr3=0x100000\nwrite gpa=0x100000 value=0x101001\naccess ") +
                         access + "\n" + after + "access read gva=0x40000000\n",
                     [&](Program&, OutcomeStream& out, Verdict& verdict) {
                       out.steps[3].gpa[0] = 0x5008;
                       verdict.field = "value";
                       verdict.got = std::string("ok value=") + got;
                       verdict.allowed = std::string("ok gpa=") + at + " value=0x7007";
                     });
  };
  EXPECT_EQ(fact("", "0x1234", "0x5008"), "1") << "it stored there";
  EXPECT_EQ(fact("", "0x1234", "0x5010"), "0");
  EXPECT_EQ(fact("", "0x1234", "0x5008", "read gva=0x8"), "0");
  EXPECT_EQ(fact("write gpa=0x5008 value=0x7007\n", "0x1234", "0x5008"), "0") << "it is over";
  EXPECT_EQ(fact("", "0x7027", "0x103000"), "1") << "its walk met that";
  EXPECT_EQ(fact("", "0x7067", "0x103000"), "1");
  EXPECT_EQ(fact("", "0x7003", "0x103000"), "0") << "a walk takes no rights away";
}

TEST(KnownDeviations, ALackedBitOfCr4IsFoundByAccessesAndWhoeverReadsIt) {
  const auto fact = [](const char* more, OutcomeKind write = OutcomeKind::kDone) {
    return last_fact("lacked-cr4-bit",
                     std::string("machine vcpus=2 features=-smep\nmov cr4=pae|smep\n") + more,
                     [&](Program&, OutcomeStream& out, Verdict&) { out.steps[0].kind = write; });
  };
  EXPECT_EQ(fact("get cr4\n"), "1");
  EXPECT_EQ(fact("access read gva=0x0\n"), "1");
  EXPECT_EQ(fact("get cr4\n", OutcomeKind::kGp), "0");
  EXPECT_EQ(fact("get cr0\n"), "0");
  EXPECT_EQ(fact("get cr4 vcpu=1\n"), "0");
  EXPECT_EQ(fact("mov cr4=pae\nget cr4\n"), "0");
}

// Ids under which the divergences of a trace of corpus/known fall. On a host that the entry is not
// about some steps may be beyond it.
std::vector<std::string> ids_in(const std::string& file, Subject& subject, bool own_host) {
  std::vector<std::string> ids;
  ParseResult loaded = load_trace(TWINWALK_SOURCE_DIR "/corpus/known/" + file);
  EXPECT_TRUE(loaded) << (loaded.error ? to_text(*loaded.error) : "");
  if (!loaded) return ids;
  fit_to_host(loaded.trace, subject.info());
  const CaseVerdict verdict = kvm::judge_by_spec(
      loaded.trace, subject, [&](const kvm::JudgedStep& step) { ids.emplace_back(step.known); });
  if (own_host) EXPECT_EQ(verdict.skip, 0u) << file;
  return ids;
}

TEST(KnownDeviations, EachReproducesOnItsHostAndItsNeighbourAgrees) {
  std::string why;
  const auto subject = make_kvm_subject(why);
  if (!subject) GTEST_SKIP() << why;
  unsigned checked = 0;
  for (const KnownDeviation& known : KnownDeviations::built_in().entries()) {
    const bool own_host = runs_on(known, subject->info());
    // What another host does wrong is another entry's.
    const auto near = ids_in(known.neighbour, *subject, own_host);
    EXPECT_THAT(near, Each(Not(AnyOf(IsEmpty(), known.id)))) << known.id;
    if (!own_host) continue;
    EXPECT_THAT(near, IsEmpty()) << known.id;
    const auto ids = ids_in(known.trace, *subject, own_host);
    // What one deviation leaves behind may be another.
    EXPECT_THAT(ids, Contains(known.id)) << known.id << " does not reproduce";
    EXPECT_THAT(ids, Each(Not(IsEmpty())));
    ++checked;
  }
  if (checked == 0) GTEST_SKIP() << "no entry is about this host: " << subject->info().version;
}

}  // namespace
}  // namespace twinwalk
