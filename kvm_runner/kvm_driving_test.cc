// Both ways of driving subject `kvm` come to the same.

#include <gtest/gtest.h>

#include <algorithm>

#include "harness/trace/reply.h"
#include "harness/trace/schema.h"
#include "harness/trace/stored_words.h"
#include "kvm_runner/corpus_traces.h"
#include "kvm_runner/kvm_subject.h"
#include "kvm_runner/testing/soak.h"

namespace twinwalk::kvm {
namespace {

class KvmDrivingTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string why;
    if (!host_.open(why) || !subject_.open(why, Driving::kAlone)) GTEST_SKIP() << why;
  }

  // Everything that the subject has to tell of the program.
  Reply run(const Program& program, Driving driving) {
    Reply reply;
    subject_.drive(driving);
    subject_.run(program, reply.outcomes);
    for (std::size_t i = 0; i < program.steps.size(); ++i) {
      each_stored(program.steps[i].what, reply.outcomes.steps[i], [&](std::uint64_t gpa) {
        gpa &= ~std::uint64_t{7};
        std::uint64_t word = 0;
        if (subject_.read_image(gpa, word)) reply.image.push_back({gpa, word});
      });
    }
    return reply;
  }
  static std::vector<std::uint8_t> bytes(const Reply& reply) {
    std::vector<std::uint8_t> out;
    encode_reply(reply, out);
    return out;
  }
  // Where they part; the number of steps if only their images do.
  static std::size_t first_difference(const Reply& a, const Reply& b) {
    const auto single = [](const Reply& reply, std::size_t i) {
      Reply one;
      one.outcomes.steps = {reply.outcomes.steps[i]};
      one.outcomes.extra = reply.outcomes.extra;
      return bytes(one);
    };
    std::size_t i = 0;
    while (i < a.outcomes.steps.size() && single(a, i) == single(b, i)) ++i;
    return i;
  }

  // An exit may drop a translation that the processor may as well keep: where the two part, the
  // reference must allow both.
  void expect_same(const Trace& trace, const std::string& name) {
    Program program;
    Lowering lowering;
    lowering.lower(trace, program);
    const Reply alone = run(program, Driving::kAlone), batched = run(program, Driving::kBatched);
    ++traces_;
    if (bytes(alone) == bytes(batched)) return;
    ++differing_;
    for (const Driving driving : {Driving::kAlone, Driving::kBatched}) {
      subject_.drive(driving);
      const CaseVerdict verdict = judge_by_spec(trace, subject_);
      const std::size_t i = first_difference(alone, batched);
      EXPECT_EQ(verdict.diverge, 0u)
          << name << ", " << (driving == Driving::kAlone ? "alone" : "batched") << ": "
          << verdict.why << "; they part at step " << i << "\n"
          << (i < program.steps.size()
                  ? to_text(alone.outcomes.steps[i]) + " / " + to_text(batched.outcomes.steps[i])
                  : "")
          << "\n"
          << print(trace);
    }
  }
  void fit(Machine& machine) const {
    machine.core = Dimension::kShadow;
    machine.nested = Nesting::kNone;
    machine.vendor = host_.vendor();
    machine.features &= host_.features();
    machine.maxphyaddr =
        static_cast<std::uint8_t>(std::min<unsigned>(machine.maxphyaddr, host_.maxphyaddr()));
    if (!host_.honours_smaller_maxphyaddr())
      machine.maxphyaddr = static_cast<std::uint8_t>(host_.maxphyaddr());
    reconcile(machine);
  }
  void say(const char* what) const {
    const KvmSubject::Driven& driven = subject_.driven();
    std::printf(
        "%s: %u programs, %u of them differ; %llu batches of %llu steps, %llu steps alone, "
        "%llu programs again\n",
        what, traces_, differing_, static_cast<unsigned long long>(driven.batches),
        static_cast<unsigned long long>(driven.batched),
        static_cast<unsigned long long>(driven.alone),
        static_cast<unsigned long long>(driven.again));
  }

  Host host_;
  KvmSubject subject_;
  unsigned traces_ = 0, differing_ = 0;
};

TEST_F(KvmDrivingTest, RandomProgramsGiveTheSame) {
  RandomTraceOptions options;
  options.operations = 48;
  options.events = true;
  options.modes = !host_.only_4_level();
  RandomTrace random(soak_number("TWINWALK_SOAK_SEED", 1));
  const std::uint64_t count = soak_number("TWINWALK_SOAK_TRACES", 150);
  Trace trace;
  for (std::uint64_t n = 0; n < count && !HasFailure(); ++n) {
    random.next(options, trace);
    fit(trace.machine);
    expect_same(trace, "trace " + std::to_string(n));
  }
  say("random");
  const KvmSubject::Driven& driven = subject_.driven();
  EXPECT_GT(driven.batched, driven.batches * 2);
  EXPECT_LT(driven.again * 10, count) << "batches are not foretold well";
}

TEST_F(KvmDrivingTest, CorpusGivesTheSame) {
  for (CorpusTrace& c : corpus_traces()) {
    if (c.trace.machine.core != Dimension::kShadow || HasFailure()) continue;
    fit(c.trace.machine);
    expect_same(c.trace, c.name);
  }
  say("corpus");
}

TEST_F(KvmDrivingTest, BothWaysAreMeasured) {
  const KvmPace pace = subject_.measure_pace();
  EXPECT_GT(pace.alone_us, 0);
  EXPECT_GT(pace.batched_us, 0);
  EXPECT_EQ(subject_.driven().again, 0u);
  EXPECT_EQ((KvmPace{10, 5}).faster(), Driving::kBatched);
  EXPECT_EQ((KvmPace{10, 9}).faster(), Driving::kAlone);
  EXPECT_EQ((KvmPace{10, 90}).faster(), Driving::kAlone);
}

}  // namespace
}  // namespace twinwalk::kvm
