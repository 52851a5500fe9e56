#include "harness/trace/binary.h"

#include <gtest/gtest.h>

#include <cstddef>

#include "harness/trace/parse.h"
#include "harness/trace/print.h"
#include "harness/trace/random_trace.h"

namespace twinwalk {
namespace {

using Bytes = std::vector<std::uint8_t>;

Trace decoded(const Bytes& bytes) {
  Trace trace;
  decode(bytes, trace);
  return trace;
}

Bytes random_bytes(testing::Random& random, std::size_t most) {
  Bytes bytes(random() % (most + 1));
  for (auto& b : bytes) b = static_cast<std::uint8_t>(random());
  return bytes;
}

bool is_legal(const Trace& trace) {
  for (const MachineField& f : machine_fields()) {
    if (!legal(f, f.get(trace.machine))) return false;
  }
  if (trace.machine.host_maxphyaddr < trace.machine.maxphyaddr) return false;
  if (!trace.ops.empty() && trace.ops[0].point != Point::kNone) return false;
  for (const Op& op : trace.ops) {
    if (op.verb >= Verb::kCount || op.point >= Point::kCount) return false;
    if (op.vcpu >= trace.machine.vcpus) return false;
    for (const FieldInfo& f : schema_of(op.verb).fields) {
      const FieldInfo field = resolve(f, op);
      if (!legal(field, op.*field.member)) return false;
    }
  }
  return true;
}

TEST(Binary, RandomTracesRoundTripInBothForms) {
  testing::Random random(1);
  Bytes bytes;
  Trace back;
  for (int n = 0; n < 3000; ++n) {
    const Trace trace = testing::random_trace(random, 24);
    ASSERT_TRUE(is_legal(trace));
    encode(trace, bytes);
    const Decoded whole = decode(bytes, back);
    ASSERT_TRUE(whole.file_form && whole.whole);
    ASSERT_EQ(back, trace) << print(trace);
    encode_raw(trace, bytes);
    decode(bytes, back);
    ASSERT_EQ(back, trace) << print(trace) << "\n" << print(back);
  }
}

TEST(Binary, AnyBytesAreALegalTraceAndEncodeToAFixedPoint) {
  testing::Random random(2);
  Trace trace, back;
  Bytes bytes, again, third;
  for (int n = 0; n < 100'000; ++n) {
    bytes = random_bytes(random, 300);
    if (n % 4 == 0) bytes.insert(bytes.begin(), kBinaryMagic.begin(), kBinaryMagic.end());
    if (n % 8 == 0) bytes.insert(bytes.begin() + kBinaryMagic.size(), kBinaryVersion);
    decode(bytes, trace);
    ASSERT_TRUE(is_legal(trace)) << print(trace);
    encode(trace, again);
    decode(again, back);
    ASSERT_EQ(back, trace) << print(trace);
    encode(back, third);
    ASSERT_EQ(third, again);
  }
}

TEST(Binary, DecodedBytesPrintAndParse) {
  testing::Random random(3);
  for (int n = 0; n < 2000; ++n) {
    const Trace trace = decoded(random_bytes(random, 200));
    const std::string text = print(trace);
    const ParseResult parsed = parse(text);
    ASSERT_TRUE(parsed) << to_text(*parsed.error) << "\n" << text;
    ASSERT_EQ(parsed.trace, trace) << text;
  }
}

TEST(Binary, EncodedBytesWithDamageStayLegal) {
  testing::Random random(4);
  Bytes bytes;
  for (int n = 0; n < 5000; ++n) {
    Trace trace = testing::random_trace(random, 8);
    trace.comments.push_back({0, "# a story"});
    encode(trace, bytes);
    bytes[random() % bytes.size()] = static_cast<std::uint8_t>(random());
    const Trace damaged = decoded(bytes);
    ASSERT_TRUE(is_legal(damaged));
    const ParseResult parsed = parse(print(damaged));
    ASSERT_TRUE(parsed) << to_text(*parsed.error);
    ASSERT_EQ(parsed.trace, damaged);
  }
}

TEST(Binary, FileFormKeepsWhatPeopleWrote) {
  const ParseResult parsed = parse(
      "walk 1\n# why\n\nrequires mode=4-level nx\nknown a-1 b.2\nmachine core=shadow vcpus=2\n"
      "# first\naccess read gva=0x1000\n  = ok gpa=0x5000\n  at after-walk vcpu=1\n"
      "    # inside\n    zap-all\n\n# last\n");
  ASSERT_TRUE(parsed) << to_text(*parsed.error);
  Bytes bytes;
  encode(parsed.trace, bytes);
  EXPECT_EQ(decoded(bytes), parsed.trace);
}

TEST(Binary, TruncationIsNoticed) {
  const ParseResult parsed =
      parse("walk 1\nmachine\naccess read gva=0x1000\ninvlpg gva=0x1000\n# end\n");
  ASSERT_TRUE(parsed);
  Bytes bytes;
  encode(parsed.trace, bytes);
  Trace trace;
  ASSERT_TRUE(decode(bytes, trace).whole);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(decode(std::span(bytes).first(size), trace).whole) << size;
  }
  bytes.push_back(0);
  EXPECT_FALSE(decode(bytes, trace).whole);
}

TEST(Binary, UnknownVersionIsNotTheFileForm) {
  Bytes bytes(kBinaryMagic.begin(), kBinaryMagic.end());
  bytes.push_back(kBinaryVersion + 1);
  Trace trace;
  EXPECT_FALSE(decode(bytes, trace).file_form);
  EXPECT_TRUE(has_binary_magic(bytes));
}

TEST(Binary, NotesThatWouldReadAsOperationsAreDropped) {
  Trace trace;
  trace.comments.push_back({Trace::kHeader, "# x\naccess read gva=0"});
  Bytes bytes;
  encode(trace, bytes);
  EXPECT_TRUE(decoded(bytes).comments.empty());
}

TEST(Binary, FuzzingFormIsBounded) {
  const Bytes bytes(100'000, 21);
  EXPECT_EQ(decoded(bytes).ops.size(), kMaxFuzzOps);
}

TEST(Binary, NoBytesAreTheDefaultMachine) { EXPECT_EQ(decoded({}).machine, Machine{}); }

TEST(Binary, OneByteChangesOneOperation) {
  const ParseResult parsed =
      parse("walk 1\nmachine\ninvlpg gva=0x1000\ninvlpg gva=0x2000\ninvlpg gva=0x3000\n");
  ASSERT_TRUE(parsed);
  Bytes bytes;
  encode_raw(parsed.trace, bytes);
  const std::size_t op_bytes = 3;  // verb, page, offset
  bytes[bytes.size() - 2 * op_bytes + 1] ^= 0x10;
  const Trace changed = decoded(bytes);
  ASSERT_EQ(changed.ops.size(), 3u);
  EXPECT_EQ(changed.ops[0], parsed.trace.ops[0]);
  EXPECT_FALSE(changed.ops[1] == parsed.trace.ops[1]);
  EXPECT_EQ(changed.ops[2], parsed.trace.ops[2]);
}

TEST(Pools, SelectorsInvert) {
  for (unsigned s = 0; s < pool::kEscapeOffset; ++s) {
    for (const auto& groups : {pool::kGpa, pool::kGva}) {
      const auto found = pool::selector(groups, pool::page(groups, s));
      ASSERT_TRUE(found);
      EXPECT_EQ(pool::page(groups, *found), pool::page(groups, s));
    }
  }
}

}  // namespace
}  // namespace twinwalk
