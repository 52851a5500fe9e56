// How programs are shared out to machines, on one that only pretends to run them.

#include "kvm_runner/hosts/vmx_image_link.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "harness/trace/binary.h"
#include "harness/trace/reply.h"
#include "harness/trace/serial_log.h"
#include "kvm_runner/hosts/vmx_iso.h"

namespace twinwalk::hosts {
namespace {

// One access a program, by whose address it is known.
std::vector<Program> numbered(std::size_t count) {
  std::vector<Program> programs(count);
  for (std::size_t i = 0; i < count; ++i) {
    Op op;
    op.verb = Verb::kAccess;
    op.gva = i * 0x1000;
    op.given = given_bit(Field::kGva);
    programs[i].steps.emplace_back(0, op);
  }
  return programs;
}

// What is shared with the test: machines come and go.
struct Seen {
  std::atomic<unsigned> boots = 0, running = 0, most_running = 0;
  unsigned expected = 1;             // so many are to run at once
  std::atomic<bool> silent = false;  // from now on machines say nothing at all
};

// Reads the traces from the ISO, where files lie as they are, and answers each with its own
// address; dies of one.
class Pretender final : public ImageMachine {
 public:
  Pretender(Seen& seen, std::uint64_t deadly) : seen_(seen), deadly_(deadly) {}

  std::string name() const override { return "a pretender"; }

  bool boot(const std::string& iso, const Watch& watch, std::string& said, std::string&) override {
    ++seen_.boots;
    const unsigned now = ++seen_.running;
    for (unsigned most = seen_.most_running; now > most;) {
      if (seen_.most_running.compare_exchange_weak(most, now)) break;
    }
    if (!seen_.silent) say_all(contents_of(iso), said);
    meet_others();
    watch(said);
    --seen_.running;
    return true;
  }

 private:
  // Runs until as many do as are expected, and on for a while, in which more would begin.
  void meet_others() const {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (seen_.most_running < seen_.expected && std::chrono::steady_clock::now() < until)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    if (seen_.expected > 1) std::this_thread::sleep_for(std::chrono::milliseconds(300));
  }
  void say_all(std::string_view text, std::string& said) const {
    said = to_log_text(LogWord::kHost, 0, "pretended");
    if (answer_all(text, said)) said += to_log_text(LogWord::kBye, 0, "");
  }
  // False: it has died.
  bool answer_all(std::string_view text, std::string& said) const {
    constexpr std::string_view kMark = "TW1 trace ";
    for (std::size_t at = text.find(kMark); at != text.npos; at = text.find(kMark, at + 1)) {
      LogLine line;
      std::vector<std::uint8_t> bytes;
      Trace trace;
      if (read_log_line(text.substr(at, text.find('\n', at) - at), line) != LogRead::kWhole ||
          !from_base64(line.text, bytes) || !decode(bytes, trace).whole)
        continue;
      const std::uint64_t address = trace.ops.at(0).gva;
      if (address == deadly_) return false;
      Reply reply;
      reply.outcomes.steps.resize(1);
      reply.outcomes.steps[0].kind = OutcomeKind::kOk;
      reply.outcomes.steps[0].value = address;
      bytes.clear();
      encode_reply(reply, bytes);
      said += to_log_line(LogWord::kRan, line.number, bytes);
    }
    return true;
  }

  Seen& seen_;
  const std::uint64_t deadly_;
};

class VmxImageLinkTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string why;
    if (vmx_image_file(why).empty()) GTEST_SKIP() << why;
  }
  void run(std::size_t count, std::uint64_t deadly = ~std::uint64_t{0}) {
    VmxImageLink link(std::make_unique<Pretender>(seen_, deadly));
    link.on_progress([this](std::size_t done) { progress_ = std::max(progress_, done); });
    link.run(numbered(count), answers_);
    ASSERT_EQ(answers_.size(), count);
  }
  bool is_answered(std::size_t n) const {
    const remote::Answer& answer = answers_[n];
    return answer.there && !answer.died && answer.reply.outcomes.steps.at(0).value == n * 0x1000;
  }

  Seen seen_;
  std::vector<remote::Answer> answers_;
  std::size_t progress_ = 0;
};

TEST_F(VmxImageLinkTest, FewProgramsAreOneBoot) {
  run(20);
  EXPECT_EQ(seen_.boots, 1u);
  EXPECT_TRUE(is_answered(0) && is_answered(19));
}

TEST_F(VmxImageLinkTest, ManyAreSharedOutToAMachineAProcessor) {
  const unsigned processors = seen_.expected = std::max(1u, std::thread::hardware_concurrency());
  run(processors * 600 + 7);
  EXPECT_EQ(seen_.boots, processors);
  EXPECT_EQ(seen_.most_running, processors);
  EXPECT_EQ(progress_, answers_.size());
  for (std::size_t n = 0; n < answers_.size(); ++n) ASSERT_TRUE(is_answered(n)) << n;
}

TEST_F(VmxImageLinkTest, TwoLinksRunNoMoreMachinesThanThereAreProcessors) {
  const unsigned processors = seen_.expected = std::max(1u, std::thread::hardware_concurrency());
  std::vector<std::thread> runs;
  for (unsigned n = 0; n < 2; ++n) {
    runs.emplace_back([&] {
      VmxImageLink link(std::make_unique<Pretender>(seen_, ~std::uint64_t{0}));
      std::vector<remote::Answer> answers;
      link.run(numbered(processors * 500), answers);
    });
  }
  for (std::thread& run : runs) run.join();
  EXPECT_EQ(seen_.boots, 2 * processors);
  EXPECT_EQ(seen_.most_running, processors);
}

TEST_F(VmxImageLinkTest, ADeathIsOfOneProgramAndTheOthersRun) {
  const std::size_t deadly = 1100;
  run(1500, deadly * 0x1000);
  EXPECT_TRUE(answers_[deadly].died);
  for (std::size_t n = 0; n < answers_.size(); ++n) {
    if (n != deadly) ASSERT_TRUE(is_answered(n)) << n;
  }
}

TEST_F(VmxImageLinkTest, WhatIsStoppedBeforeItSaysAnythingBlamesNobody) {
  std::string why;
  VmxImageLink link(std::make_unique<Pretender>(seen_, ~std::uint64_t{0}));
  ASSERT_TRUE(link.open(why)) << why;
  seen_.silent = true;
  link.stop_when([] { return true; });
  link.run(numbered(1200), answers_);
  for (const remote::Answer& answer : answers_) {
    ASSERT_FALSE(answer.there || answer.died);
    ASSERT_EQ(answer.why, remote::Link::kStopped);
  }
}

TEST_F(VmxImageLinkTest, OfTheLastProgramItDiesOfNothingIsLeftToBoot) {
  run(1, 0);
  EXPECT_TRUE(answers_[0].died);
  EXPECT_EQ(seen_.boots, 1u);
}

}  // namespace
}  // namespace twinwalk::hosts
