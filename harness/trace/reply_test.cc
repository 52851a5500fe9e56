#include "harness/trace/reply.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "harness/trace/binary.h"
#include "harness/trace/load.h"
#include "harness/trace/print.h"
#include "harness/trace/random_trace.h"

namespace twinwalk {
namespace {

using testing::Random;

std::uint64_t any_number(Random& random) { return random() >> random() % 64; }

Path any_path(Random& random) {
  Path path;
  path.count = static_cast<std::uint8_t>(random() % 6);
  for (unsigned i = 0; i < path.count; ++i) path.entry[i] = any_number(random);
  return path;
}

Reply any_reply(Random& random) {
  Reply reply;
  OutcomeStream& s = reply.outcomes;
  s.extra.resize(random() % 9);
  for (std::uint64_t& e : s.extra) e = any_number(random);
  for (std::size_t n = random() % 7; n; --n) {
    Outcome o;
    o.kind =
        static_cast<OutcomeKind>(random() % (static_cast<unsigned>(OutcomeKind::kMemoryFault) + 1));
    o.reason = static_cast<SkipReason>(random() %
                                       (static_cast<unsigned>(SkipReason::kHostLacksFeature) + 1));
    o.complaint = static_cast<Complaint>(random() % (static_cast<unsigned>(Complaint::kTrap) + 1));
    o.write = random() % 2 != 0;
    o.error_code = static_cast<std::uint32_t>(random() % 3 ? random() : 0);
    o.cr2 = random() % 2 ? any_number(random) : 0;
    o.qualification = random() % 2 ? any_number(random) : 0;
    o.gpa[0] = random() % 2 ? any_number(random) : kUnknownGpa;
    o.gpa[1] = random() % 2 ? any_number(random) : kUnknownGpa;
    o.value = random() % 2 ? random() : 0;
    o.path[0] = any_path(random);
    o.path[1] = any_path(random);
    o.extra_begin = static_cast<std::uint32_t>(random() % (s.extra.size() + 1));
    o.extra_count = static_cast<std::uint32_t>(random() % (s.extra.size() - o.extra_begin + 1));
    s.steps.push_back(o);
    if (random() % 2) s.ended.push_back(static_cast<std::uint32_t>(random()));
    if (random() % 2) s.begun.push_back(static_cast<std::uint32_t>(random()));
  }
  if (random() % 2) s.complaint_text = std::string("a\0b\n", 4);
  std::uint64_t gpa = 0;
  for (std::size_t n = random() % 5; n; --n)
    reply.image.push_back({gpa += 8 * (random() % 1000), random()});
  return reply;
}

bool same(const Path& a, const Path& b) {
  return a.count == b.count && std::equal(a.entry, a.entry + a.count, b.entry);
}

void expect_same(const Reply& a, const Reply& b) {
  ASSERT_EQ(a.outcomes.steps.size(), b.outcomes.steps.size());
  for (std::size_t i = 0; i < a.outcomes.steps.size(); ++i) {
    const Outcome &x = a.outcomes.steps[i], &y = b.outcomes.steps[i];
    EXPECT_EQ(x.kind, y.kind);
    EXPECT_EQ(x.reason, y.reason);
    EXPECT_EQ(x.complaint, y.complaint);
    EXPECT_EQ(x.write, y.write);
    EXPECT_EQ(x.error_code, y.error_code);
    EXPECT_EQ(x.cr2, y.cr2);
    EXPECT_EQ(x.qualification, y.qualification);
    EXPECT_EQ(x.gpa[0], y.gpa[0]);
    EXPECT_EQ(x.gpa[1], y.gpa[1]);
    EXPECT_EQ(x.value, y.value);
    EXPECT_TRUE(same(x.path[0], y.path[0]) && same(x.path[1], y.path[1]));
    EXPECT_EQ(x.extra_begin, y.extra_begin);
    EXPECT_EQ(x.extra_count, y.extra_count);
  }
  EXPECT_EQ(a.outcomes.extra, b.outcomes.extra);
  EXPECT_EQ(a.outcomes.ended, b.outcomes.ended);
  EXPECT_EQ(a.outcomes.begun, b.outcomes.begun);
  EXPECT_EQ(a.outcomes.complaint_text, b.outcomes.complaint_text);
  EXPECT_EQ(a.image, b.image);
}

TEST(Reply, ComesBackAsItWas) {
  Random random(1);
  std::vector<std::uint8_t> bytes;
  for (int i = 0; i < 2000; ++i) {
    const Reply reply = any_reply(random);
    bytes.clear();
    encode_reply(reply, bytes);
    Reply back;
    ASSERT_TRUE(decode_reply(bytes, back)) << i;
    expect_same(reply, back);
  }
}

TEST(Reply, DecodingIsTotalAndFindsWhatIsMissing) {
  Random random(2);
  std::vector<std::uint8_t> bytes;
  Reply back;
  for (int i = 0; i < 300; ++i) {
    bytes.clear();
    encode_reply(any_reply(random), bytes);
    for (std::size_t n = 0; n < bytes.size(); ++n)
      EXPECT_FALSE(decode_reply(std::span(bytes).first(n), back)) << n;
    auto longer = bytes;
    longer.push_back(0);
    EXPECT_FALSE(decode_reply(longer, back));
    for (int change = 0; change < 20; ++change) {
      auto other = bytes;
      other[random() % other.size()] = static_cast<std::uint8_t>(random());
      decode_reply(other, back);  // any answer, but no crash (the tests run sanitized)
    }
  }
}

// A program that went there and back is the program.
void expect_same_program(const Trace& trace, const std::string& name) {
  Lowering lowering;
  Program program, again;
  lowering.lower(trace, program);
  if (!program.steps.empty()) program.steps[0].what.point = Point::kNone;
  Trace steps, decoded;
  trace_of(program, steps);
  std::vector<std::uint8_t> bytes;
  encode(steps, bytes);
  const Decoded how = decode(bytes, decoded);
  ASSERT_TRUE(how.file_form && how.whole) << name;
  lowering.lower(decoded, again);
  ASSERT_EQ(program.machine, again.machine) << name;
  ASSERT_EQ(program.steps.size(), again.steps.size()) << name;
  for (std::size_t i = 0; i < program.steps.size(); ++i) {
    const Op &a = program.steps[i].what, &b = again.steps[i].what;
    ASSERT_TRUE(a == b) << name << " step " << i << " of operation " << program.steps[i].op << ": "
                        << print(steps) << "\n"
                        << print(decoded);
  }
}

TEST(TraceOf, GivesTheSameProgramAgain) {
  Random random(3);
  for (int i = 0; i < 3000; ++i)
    expect_same_program(testing::random_trace(random, 24), std::to_string(i));
}

TEST(TraceOf, GivesTheSameProgramForTheCorpus) {
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(TWINWALK_SOURCE_DIR "/corpus")) {
    if (entry.path().extension() != ".walk") continue;
    ParseResult parsed = load_trace(entry.path().string());
    ASSERT_TRUE(parsed) << entry.path();
    expect_same_program(parsed.trace, entry.path().string());
  }
}

}  // namespace
}  // namespace twinwalk
