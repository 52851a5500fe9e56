#include "harness/checker.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "harness/core_subject.h"
#include "harness/finding.h"
#include "harness/minimise.h"
#include "harness/trace/parse.h"

namespace twinwalk {
namespace {

Trace trace_of(const std::string& ops, const std::string& head = "") {
  const ParseResult parsed =
      parse("walk 1\n" + head + "machine core=shadow memory=64M vcpus=1\n" + ops);
  EXPECT_TRUE(parsed) << (parsed.error ? to_text(*parsed.error) : "");
  return parsed.trace;
}

// The core, but what it was seen to do is changed on the way: a checker must notice.
class Lying final : public Subject {
 public:
  using Lie = std::function<void(const Program&, OutcomeStream&)>;
  explicit Lying(Lie lie)
      : core_(make_core_subject()), lie_(std::move(lie)), info_(core_->info()) {}
  const SubjectInfo& info() const override { return info_; }
  void be_partial() { info_.partial = true; }
  void run(const Program& program, OutcomeStream& out) override {
    core_->run(program, out);
    lie_(program, out);
  }
  bool read_image(std::uint64_t gpa, std::uint64_t& word) const override {
    if (!core_->read_image(gpa, word)) return false;
    if (gpa == spoilt) word ^= spoilt_bits;
    return true;
  }
  std::uint64_t spoilt = kUnknownGpa, spoilt_bits = 1;

 private:
  std::unique_ptr<Subject> core_;
  Lie lie_;
  SubjectInfo info_;
};

// The outcome of the first access.
Outcome& first_access(const Program& program, OutcomeStream& out) {
  std::size_t i = 0;
  while (program.steps[i].what.verb != Verb::kAccess) ++i;
  return out.steps[i];
}

DivergenceClass class_when(const std::string& ops, void (*lie)(Outcome&)) {
  Lying subject([lie](const Program&, OutcomeStream& out) { lie(out.steps.back()); });
  Checker checker(subject);
  return checker.check(trace_of(ops)).divergence;
}

constexpr char kRead[] = "map gva=0x400000 gpa=0x5000\naccess read gva=0x400000\n";
constexpr char kWrite[] = "map gva=0x400000 gpa=0x5000\naccess write gva=0x400000\n";
constexpr char kFault[] = "map gva=0x400000 gpa=0x5000 pte=p\naccess write gva=0x400000\n";

TEST(Checker, TheCoreAgrees) {
  const auto subject = make_core_subject();
  Checker checker(*subject);
  for (const char* ops : {kRead, kWrite, kFault}) {
    const CheckResult r = checker.check(trace_of(ops));
    EXPECT_EQ(r.divergence, DivergenceClass::kNone);
    EXPECT_EQ(r.diverge, 0u);
    EXPECT_GE(r.checks, r.steps);
  }
}

TEST(Checker, NoticesEveryKindOfLie) {
  EXPECT_EQ(class_when(kFault, [](Outcome& o) { o.kind = OutcomeKind::kOk; }),
            DivergenceClass::kMissedFault);
  EXPECT_EQ(class_when(kFault, [](Outcome& o) { o.error_code ^= pfec::kU; }),
            DivergenceClass::kWrongErrorCode);
  EXPECT_EQ(class_when(kFault, [](Outcome& o) { o.cr2 += 4096; }),
            DivergenceClass::kWrongFaultAddress);
  EXPECT_EQ(class_when(kRead, [](Outcome& o) { o.gpa[0] = 0x6000; }), DivergenceClass::kWrongFrame);
  EXPECT_EQ(class_when(kRead, [](Outcome& o) { o.value ^= 1; }), DivergenceClass::kWrongValue);
  EXPECT_EQ(class_when(kWrite, [](Outcome& o) { o.path[0].entry[3] &= ~pte::kD; }),
            DivergenceClass::kAccessedDirty);
  EXPECT_EQ(class_when(kRead,
                       [](Outcome& o) {
                         o.kind = OutcomeKind::kPageFault;
                         o.cr2 = 0x400000;
                       }),
            DivergenceClass::kSpuriousFault);
  EXPECT_EQ(class_when("slot-flags slot=0 flags=log\nwrite gpa=0x5000 value=1\ndirty-get slot=0\n",
                       [](Outcome& o) { o.extra_count = 0; }),
            DivergenceClass::kLostDirtyLog);
}

TEST(Checker, ComplaintsAreDivergences) {
  for (const auto& [complaint, cls] :
       {std::pair(Complaint::kEscape, DivergenceClass::kEscape),
        std::pair(Complaint::kAuditRmap, DivergenceClass::kAuditRmap),
        std::pair(Complaint::kTrap, DivergenceClass::kTrap)}) {
    Lying subject([complaint = complaint](const Program&, OutcomeStream& out) {
      out.steps[1].complaint = complaint;
    });
    Checker checker(subject);
    const CheckResult r = checker.check(trace_of(kRead));
    EXPECT_EQ(r.divergence, cls);
    EXPECT_EQ(r.step, 1u);
  }
}

TEST(Checker, ComparesWholeImages) {
  Lying subject([](const Program&, OutcomeStream&) {});
  Checker checker(subject);
  EXPECT_EQ(checker.check(trace_of(kWrite)).divergence, DivergenceClass::kNone);
  subject.spoilt = 0x5000;
  EXPECT_EQ(checker.check(trace_of(kWrite)).divergence, DivergenceClass::kWrongImage);
}

// Both name the entries of the first address mapped: tables follow the root in order.
constexpr std::uint64_t kPde = 0x102010, kLeaf = 0x103000;

// The class found if the image has other bits at `gpa` than the core left there.
DivergenceClass class_of_image(const std::string& ops, std::uint64_t gpa, std::uint64_t bits) {
  Lying subject([](const Program&, OutcomeStream&) {});
  Checker checker(subject);
  EXPECT_EQ(checker.check(trace_of(ops)).divergence, DivergenceClass::kNone);
  subject.spoilt = gpa, subject.spoilt_bits = bits;
  return checker.check(trace_of(ops)).divergence;
}

TEST(Checker, ImagesAreComparedInAccessedAndDirtyToo) {
  // Data that looks like an entry is data.
  const std::string data = "map gva=0x400000 gpa=0x5000\naccess write gva=0x400000 value=p|w|u\n";
  EXPECT_EQ(class_of_image(data, 0x5000, pte::kA), DivergenceClass::kWrongImage);
  EXPECT_EQ(class_of_image(data, 0x5000, pte::kD), DivergenceClass::kWrongImage);
  // Entries that were walked, and one that was not.
  EXPECT_EQ(class_of_image(data, kLeaf, pte::kD), DivergenceClass::kWrongImage);
  const std::string idle = data + "map gva=0x401000 gpa=0x6000\n";
  EXPECT_EQ(class_of_image(idle, kLeaf + 8, pte::kA), DivergenceClass::kWrongImage);
}

TEST(Checker, ImagesTellOfEntriesThatAStoreTookOffItsOwnPath) {
  // The page is the address's own page directory: afterwards nothing shows the leaf.
  const std::string own = "map gva=0x400000 gpa=0x102000\n";
  const std::string store = "access write gva=0x400010 value=0\n";
  EXPECT_EQ(class_of_image(own + store, kLeaf, pte::kD), DivergenceClass::kWrongImage);
  EXPECT_EQ(class_of_image(own + store, kLeaf, pte::kA), DivergenceClass::kWrongImage);
  EXPECT_EQ(class_of_image(own + store, kPde, pte::kA), DivergenceClass::kWrongImage);
  // With a translation cached whose A and D were cleared since, nobody knows whether it was used.
  const std::string cached = own +
                             "access write gva=0x400018\nwrite gpa=0x103000 "
                             "value=0x102000|p|w|u\n";
  EXPECT_EQ(class_of_image(cached + store, kLeaf, pte::kD), DivergenceClass::kNone);
  EXPECT_EQ(class_of_image(cached + store, kLeaf, pte::kPcd), DivergenceClass::kWrongImage);
  EXPECT_EQ(class_of_image(cached + "invlpg gva=0x400010\n" + store, kLeaf, pte::kD),
            DivergenceClass::kWrongImage);
}

TEST(Checker, ExpectationsAreAboutTheLastStepOfTheirOperation) {
  const auto subject = make_core_subject();
  Checker checker(*subject);
  EXPECT_EQ(checker.check(trace_of(std::string(kRead) + "  = ok gpa=0x5000 set pte=a\n")).diverge,
            0u);
  std::string said;
  const CheckResult r = checker.check(trace_of(std::string(kRead) + "  = ok gpa=0x6000\n"),
                                      [&](const CheckEvent& e) { said = e.verdict.allowed; });
  EXPECT_EQ(r.divergence, DivergenceClass::kExpectation);
  EXPECT_EQ(r.op, 1u);
  EXPECT_EQ(said, "ok gpa=0x6000");
}

TEST(Checker, RequirementsThatDoNotHold) {
  const auto subject = make_core_subject();
  Checker checker(*subject);
  Trace trace = trace_of(kRead, "requires mode=4-level pcid\n");
  EXPECT_TRUE(checker.check(trace).executed);
  trace.machine.features &= ~feature::kPcid;
  EXPECT_FALSE(checker.check(trace).executed);
  trace.requires_line = "mode=pae";
  EXPECT_FALSE(checker.check(trace).executed);
  trace.machine.mode = Mode::kPae;
  EXPECT_TRUE(checker.check(trace).executed);
}

TEST(Checker, KnownDivergencesAreCountedApart) {
  Lying subject([](const Program&, OutcomeStream& out) { out.steps.back().value ^= 1; });
  Checker checker(subject);
  Trace trace = trace_of(kRead);
  trace.known.emplace_back("wrong-value");
  bool known = false;
  const CheckResult r = checker.check(trace, [&](const CheckEvent& e) { known = e.known; });
  EXPECT_TRUE(known);
  EXPECT_EQ(r.known, 1u);
  EXPECT_EQ(r.diverge, 0u);
}

TEST(Checker, DeviationsOfTheSubjectAreCountedApart) {
  bool trapped = false;
  Lying subject([&](const Program& program, OutcomeStream& out) {
    Outcome& seen = first_access(program, out);
    seen.value ^= 1;
    if (trapped) seen.complaint = Complaint::kTrap;
  });
  Checker checker(subject);
  checker.accept_deviations([](std::uint32_t, const Verdict& verdict) -> std::string_view {
    return verdict.divergence == DivergenceClass::kExpectation ? "" : "off-by-one";
  });
  // The `=` line fails for the same reason as its step; that of the next step has none.
  const Trace trace = trace_of(std::string(kRead) +
                               "  = ok value=0x1\naccess read gva=0x400000\n  = ok value=0x1\n");
  std::vector<std::string> ids;
  const CheckResult r =
      checker.check(trace, [&](const CheckEvent& e) { ids.emplace_back(e.known_id); });
  EXPECT_EQ(r.known, 2u);
  EXPECT_EQ(r.diverge, 1u);
  EXPECT_EQ(ids, (std::vector<std::string>{"off-by-one", "off-by-one", ""}));
  trapped = true;
  EXPECT_EQ(checker.check(trace_of(kRead)).divergence, DivergenceClass::kTrap);
}

TEST(Checker, ExpectationsBehindWhatTheHostCannotDoAreSkipped) {
  SkipReason reason = SkipReason::kHostLacksFeature;
  Lying subject([&](const Program& program, OutcomeStream& out) {
    Outcome& skipped = first_access(program, out);
    skipped = {};
    skipped.kind = OutcomeKind::kSkip;
    skipped.reason = reason;
  });
  Checker checker(subject);
  const std::string ops = std::string(kRead) +
                          "  = ok gpa=0x5000\naccess read gva=0x400000\n  = ok value=0x1\n"
                          "access read gva=0x400000\n  = ok gpa=0x5000\n";
  CheckResult r = checker.check(trace_of(ops));
  EXPECT_EQ(r.diverge, 0u);
  EXPECT_EQ(r.skip, 3u);  // the step, its line and the line that fails; what holds still counts
  EXPECT_EQ(r.checks, r.agree + r.skip);
  reason = SkipReason::kVerbNotSupported;
  r = checker.check(trace_of(ops));
  EXPECT_EQ(r.divergence, DivergenceClass::kExpectation);
  EXPECT_EQ(r.diverge, 2u);
  subject.be_partial();
  r = checker.check(trace_of(ops));
  EXPECT_EQ(r.diverge, 0u) << "a subject that has not the verb at all";
  EXPECT_EQ(r.skip, 3u);
}

TEST(Checker, FindingsAreMinimisedAndReplayed) {
  // Loads of gpa 0x7000 lie.
  Lying subject([](const Program&, OutcomeStream& out) {
    for (Outcome& o : out.steps) {
      if (o.kind == OutcomeKind::kOk && o.gpa[0] == 0x7000) o.value ^= 1;
    }
  });
  Checker checker(subject);
  std::string ops;
  for (unsigned n = 0; n < 40; ++n) {
    const std::string page = std::to_string(n % 10);
    ops.append("map gva=0x40").append(page).append("000 gpa=0x").append(page);
    ops.append("000\naccess read gva=0x40").append(page).append("000 cpl=3\n");
  }
  const Trace trace = trace_of(ops);
  EXPECT_TRUE(replays(checker, trace));
  const Minimised small = minimise(checker, trace);
  ASSERT_TRUE(small.reproduced);
  EXPECT_EQ(small.trace.ops.size(), 2u);
  const CheckResult r = checker.check(small.trace);
  EXPECT_EQ(r.divergence, DivergenceClass::kWrongValue);
  EXPECT_EQ(finding_of(r, subject.info().profile),
            finding_of(checker.check(trace), subject.info().profile));
}

}  // namespace
}  // namespace twinwalk
