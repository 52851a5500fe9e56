#include "harness/trace/parse.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>

#include "harness/trace/load.h"
#include "harness/trace/print.h"
#include "harness/trace/random_trace.h"

namespace twinwalk {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr std::string_view kStory = R"(walk 1
# A read-only user page: supervisor writes pass only while CR0.WP=0.

requires mode=4-level nx
known unicorn-a
machine  core=shadow memory=64M vcpus=2 vendor=amd features=-pcid|-smap
cpu      cr0=pe|pg cr4=pae efer=lme|lma|nxe cpl=0
map      gva=0xffff923400000000 gpa=0x5000 pte=p|u upper=p|w|u

# the story
access   write gva=0xffff923400000000 vcpu=1
  = ok gpa=0x5000 set pte=a|d
  at after-walk vcpu=1
    # by the other one
    write    gpa=0x101000 value=0x102000|p|w|u|pk3
      = done
  at before-flush
    zap-all
mov      cr3=0x100007|noflush
fail-alloc after=2 count=1
zap-all  vcpu=1
# end
)";

Trace parsed(std::string_view text) {
  ParseResult result = parse(text, "t.walk");
  EXPECT_TRUE(result) << to_text(*result.error);
  return result.trace;
}

Op one_op(const std::string& line) {
  const Trace trace = parsed("walk 1\nmachine vcpus=2\n" + line + "\n");
  EXPECT_EQ(trace.ops.size(), 1u);
  return trace.ops.empty() ? Op{} : trace.ops[0];
}

std::string error_of(const std::string& text) {
  const ParseResult result = parse(text, "t.walk");
  EXPECT_FALSE(result) << text;
  return result ? "" : to_text(*result.error);
}

// The error of a line that follows a good header; that is line 3.
std::string line_error(const std::string& line) {
  return error_of("walk 1\nmachine vcpus=2\n" + line + "\n");
}

TEST(Parse, CanonicalTextIsAFixedPoint) { EXPECT_EQ(print(parsed(kStory)), kStory); }

TEST(Parse, EverythingIsInTheTrace) {
  const Trace t = parsed(kStory);
  EXPECT_EQ(t.requires_line, "mode=4-level nx");
  EXPECT_THAT(t.known, ::testing::ElementsAre("unicorn-a"));
  EXPECT_EQ(t.machine.vendor, Vendor::kAmd);
  EXPECT_EQ(t.machine.features, Machine{}.features & ~(feature::kPcid | feature::kSmap));
  ASSERT_EQ(t.ops.size(), 8u);
  EXPECT_EQ(t.ops[0].cr0, cr0::kPe | cr0::kPg);
  EXPECT_TRUE(t.ops[0].gives(Field::kCpl));
  EXPECT_FALSE(t.ops[0].gives(Field::kAc));
  EXPECT_EQ(t.ops[2].access(), AccessKind::kWrite);
  EXPECT_EQ(t.ops[2].vcpu, 1);
  EXPECT_EQ(t.ops[2].line, 11u);
  EXPECT_EQ(t.ops[3].point, Point::kAfterWalk);
  EXPECT_EQ(t.ops[3].vcpu, 1);
  EXPECT_EQ(t.ops[3].value,
            0x102000 | pte::kP | pte::kW | pte::kU | std::uint64_t{3} << pte::kPkeyShift);
  EXPECT_EQ(t.ops[4].point, Point::kBeforeFlush);
  EXPECT_EQ(t.ops[5].point, Point::kNone);
  EXPECT_EQ(t.ops[5].reg(), Reg::kCr3);
  EXPECT_EQ(t.ops[5].value, 0x100007 | cr3::kNoFlush);
  ASSERT_EQ(t.expectations.size(), 2u);
  EXPECT_EQ(t.expectations[0], (Expectation{2, "ok gpa=0x5000 set pte=a|d"}));
  EXPECT_EQ(t.expectations[1], (Expectation{3, "done"}));
  EXPECT_EQ(t.comments.back(), (Trace::Comment{8, "# end"}));
}

TEST(Parse, RandomTracesRoundTrip) {
  twinwalk::testing::Random random(7);
  for (int n = 0; n < 3000; ++n) {
    const Trace trace = twinwalk::testing::random_trace(random, 16);
    const std::string text = print(trace);
    const ParseResult again = parse(text);
    ASSERT_TRUE(again) << to_text(*again.error) << "\n" << text;
    ASSERT_EQ(again.trace, trace) << text;
    ASSERT_EQ(print(again.trace), text);
  }
}

TEST(Parse, DamagedTextEitherFailsOrSettles) {
  twinwalk::testing::Random random(8);
  for (int n = 0; n < 20'000; ++n) {
    std::string text(kStory);
    for (std::uint64_t edits = 1 + random() % 3; edits; --edits) {
      const std::size_t at = random() % text.size();
      if (random() % 3 == 0)
        text.erase(at, 1 + random() % 4);
      else
        text[at] = "\n =|-#0x19apg\t"[random() % 13];
    }
    const ParseResult first = parse(text);
    if (!first) {
      ASSERT_EQ(to_text(*first.error).find('\n'), std::string::npos);
      continue;
    }
    const std::string canonical = print(first.trace);
    const ParseResult second = parse(canonical);
    ASSERT_TRUE(second) << to_text(*second.error) << "\n" << text << "\n-->\n" << canonical;
    ASSERT_EQ(second.trace, first.trace) << text;
    ASSERT_EQ(print(second.trace), canonical);
  }
}

TEST(Parse, RandomBytesGiveOneLine) {
  twinwalk::testing::Random random(9);
  for (int n = 0; n < 20'000; ++n) {
    std::string text = n % 2 ? "walk 1\n" : "";
    for (std::uint64_t size = random() % 200; size; --size) text += static_cast<char>(random());
    const ParseResult result = parse(text);
    if (result) continue;
    for (const char c : to_text(*result.error)) {
      ASSERT_TRUE(static_cast<unsigned char>(c) >= 0x20 && static_cast<unsigned char>(c) < 0x7f);
    }
  }
}

TEST(Parse, DefaultsHoldWhereNothingIsSaid) {
  EXPECT_EQ(one_op("access read gva=0x1000").size, 8u);
  EXPECT_FALSE(one_op("access read gva=0x1000").given & kCplGiven);
  EXPECT_TRUE(one_op("access read gva=0x1000 cpl=0").given & kCplGiven);
  EXPECT_EQ(one_op("map gva=0 gpa=0").pte, pte::kP | pte::kW | pte::kU);
  EXPECT_EQ(one_op("map gva=0 gpa=0").size, 1u);
  EXPECT_EQ(one_op("map gva=0 gpa=0 size=1G").size, 3u);
  EXPECT_EQ(one_op("age hva=0x7f0000000000").pages, 1u);
}

TEST(Parse, RawGivesTheWholeEntry) {
  EXPECT_EQ(one_op("map gva=0 gpa=0 raw=0x8000000000000001").pte, pte::kXd | pte::kP);
  EXPECT_EQ(one_op("write gpa=0 raw=0x67").value, 0x67u);
  EXPECT_THAT(line_error("map gva=0 gpa=0 raw=p"),
              HasSubstr("t.walk:3:21: pte: found `p`; allowed: a number"));
}

TEST(Parse, PlainDataPrintsAsANumberAndEntriesAsBits) {
  EXPECT_EQ(print(one_op("write gpa=0x10 value=18")), "write    gpa=0x10 value=0x12");
  EXPECT_EQ(print(one_op("write gpa=0x10 value=0x1063")), "write    gpa=0x10 value=0x1000|p|w|a|d");
}

TEST(Parse, CommentsBehindAnOperationMoveBeforeIt) {
  EXPECT_EQ(print(parsed("walk 1\nmachine\nzap-all # why\n")),
            "walk 1\nmachine  core=shadow memory=64M vcpus=1\n# why\nzap-all\n");
}

TEST(Parse, LineEndingsOfOtherSystems) {
  EXPECT_EQ(parsed("walk 1\r\nmachine\r\nzap-all\r\n").ops.size(), 1u);
}

TEST(ParseErrors, SayWhatWasFoundAndWhatIsAllowed) {
  EXPECT_THAT(line_error("accses read"),
              StartsWith("t.walk:3:1: found `accses`; a verb is one of cpu mov map"));
  EXPECT_THAT(
      line_error("access read gva=0x1000 sze=4"),
      StartsWith(
          "t.walk:3:24: found `sze=4`; `access` takes read, write, fetch or rmw, gva= size="));
  EXPECT_EQ(line_error("access read gva=0x1000 size=3"),
            "t.walk:3:29: size: found `3`; allowed: 1, 2, 4 or 8");
  EXPECT_EQ(line_error("access reed gva=0"),
            "t.walk:3:8: kind: found `reed`; allowed: read, write, fetch or rmw");
  EXPECT_EQ(line_error("access read"), "t.walk:3:12: `access` ends without gva=");
  EXPECT_EQ(line_error("access gva=0"),
            "t.walk:3:13: `access` ends without its kind: read, write, fetch or rmw");
  EXPECT_EQ(line_error("map gva=0 gpa=0 size=5K"),
            "t.walk:3:22: size: found `5K`; allowed: 4K, 2M or 1G");
  EXPECT_THAT(line_error("map gva=0 gpa=0 pte=p|q"),
              StartsWith("t.walk:3:23: pte: found `q`; allowed: p, w"));
  EXPECT_THAT(line_error("map gva=0 gpa=0 pte=p|"), HasSubstr("pte: found nothing; allowed"));
  EXPECT_EQ(line_error("invlpg gva=0 gva=1"), "t.walk:3:14: found a second gva; allowed: one");
  EXPECT_EQ(line_error("invlpg gva=0 vcpu=2"),
            "t.walk:3:19: vcpu: found `2`; allowed: 0 to 1 (the machine has 2)");
  EXPECT_EQ(line_error("quota pages=3"),
            "t.walk:3:13: pages: found `3`; allowed: 0, or 8 to 65535");
  EXPECT_THAT(line_error("mov cr9=0"),
              StartsWith("t.walk:3:5: register: found `cr9`; allowed: cr0, cr3"));
  EXPECT_THAT(line_error("mov cr0=0 cr3=0"), HasSubstr("`mov` takes one register, `cpu` several"));
  EXPECT_THAT(line_error("invlpg gva=0x10000000000000000"), HasSubstr("at most 64 bits"));
}

TEST(ParseErrors, OfTheHeader) {
  EXPECT_EQ(error_of(""), "t.walk: found no `walk 1`; a trace begins with that line");
  EXPECT_EQ(error_of("zap-all\n"), "t.walk:1:1: found `zap-all`; a trace begins with `walk 1`");
  EXPECT_EQ(error_of("walk 2\n"), "t.walk:1:6: found version `2`; allowed: 1");
  EXPECT_THAT(error_of("walk 1\nmachine memory=3M"),
              HasSubstr("memory: found `3M`; allowed: an even number"));
  EXPECT_THAT(error_of("walk 1\nmachine features=-pcid|nx"),
              HasSubstr("found `nx`; allowed: after a first -NAME"));
  EXPECT_THAT(error_of("walk 1\nmachine maxphyaddr=48 host-maxphyaddr=40"),
              HasSubstr("allowed: 48 (maxphyaddr) to 52"));
  EXPECT_THAT(error_of("walk 1\nmachine x=1"),
              HasSubstr("found `x=1`; allowed: core= nested= memory="));
  EXPECT_THAT(error_of("walk 1\nrequires mode=long"),
              HasSubstr("found `long`; allowed: none, 32-bit, pae"));
  EXPECT_THAT(error_of("walk 1\nmachine\nzap-all\nmachine\n"), HasSubstr("after an operation"));
}

TEST(ParseErrors, OfBlocksAndExpectations) {
  EXPECT_THAT(line_error("at after-walk"), HasSubstr("before any operation"));
  EXPECT_THAT(line_error("zap-all\n  at never\n    zap-all"),
              StartsWith("t.walk:4:6: found `never`; allowed: after-walk"));
  EXPECT_THAT(line_error("zap-all\n  at after-walk\nzap-all"),
              StartsWith("t.walk:5:1: found `zap-all`; allowed after `at`"));
  EXPECT_THAT(line_error("zap-all\n  at after-walk"), HasSubstr("found the end after `at`"));
  EXPECT_THAT(line_error("zap-all\n  at after-walk\n    zap-all\n      at after-walk\n"),
              HasSubstr("do not nest"));
  EXPECT_THAT(line_error("zap-all\n  at after-walk\n    zap-all vcpu=1"),
              HasSubstr("on the `at` line"));
  EXPECT_THAT(line_error("  = ok"), HasSubstr("before any operation"));
  EXPECT_THAT(line_error("zap-all\n  = fine"),
              HasSubstr("found `fine` after `=`; allowed: done, ok, #PF"));
}

TEST(ParseErrors, OfBytesThatAreNotText) {
  EXPECT_EQ(error_of(std::string("walk 1\nma\0chine\n", 16)),
            "t.walk:2:3: found byte 0x00; a trace is UTF-8 text");
  EXPECT_EQ(error_of("walk 1\n# \xc0\xaf\n"), "t.walk:2:3: found byte 0xc0; a trace is UTF-8 text");
  EXPECT_EQ(error_of("walk 1\n# \x1b[0m\n"), "t.walk:2:3: found byte 0x1b; a trace is UTF-8 text");
  EXPECT_TRUE(parse("walk 1\n# \xc3\xa4\xe2\x82\xac\n"));
  EXPECT_THAT(error_of(std::string(kMaxTextBytes + 1, '\n')),
              HasSubstr("a trace has at most 67108864"));
}

TEST(Load, NamesWhatIsWrongWithAFile) {
  EXPECT_THAT(to_text(*load_trace("/nowhere/x.walk").error),
              ::testing::Eq("/nowhere/x.walk: No such file or directory"));
  EXPECT_THAT(to_text(*load_trace("/").error), HasSubstr("found a folder"));
  const std::string path = ::testing::TempDir() + "twinwalk_load_test.bin";
  const std::string magic("TWWALK1\0\2", 9);
  std::ofstream(path, std::ios::binary) << magic;
  EXPECT_THAT(to_text(*load_trace(path).error), HasSubstr("truncated or damaged"));
  EXPECT_TRUE(load_trace(path, Form::kRaw));
  std::ofstream(path, std::ios::binary) << "walk 1\nzap-all\n";
  EXPECT_EQ(load_trace(path).trace.ops.size(), 1u);
  std::remove(path.c_str());
}

}  // namespace
}  // namespace twinwalk
