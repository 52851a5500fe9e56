#include "harness/cli/machine_facts.h"

#include <gtest/gtest.h>

namespace twinwalk::cli {
namespace {

constexpr const char* kTwoProcessors =
    "processor\t: 0\n"
    "model name\t: Example CPU @ 2.00GHz\n"
    "flags\t\t: fpu vme pcid smep vmx\n"
    "vmx flags\t: vnmi ept ept_ad\n"
    "\n"
    "processor\t: 1\n"
    "model name\t: Another CPU\n"
    "flags\t\t: svm\n";

TEST(ParseCpuinfo, TakesTheFirstProcessorsModel) {
  EXPECT_EQ(parse_cpuinfo(kTwoProcessors).model, "Example CPU @ 2.00GHz");
}

TEST(ParseCpuinfo, TakesTheFirstProcessorsFlags) {
  const CpuFacts facts = parse_cpuinfo(kTwoProcessors);
  EXPECT_TRUE(facts.has("vmx"));
  EXPECT_FALSE(facts.has("svm"));
}

TEST(ParseCpuinfo, SeesEptAmongTheVmxFlags) {
  EXPECT_TRUE(parse_cpuinfo(kTwoProcessors).has("ept"));
}

TEST(ParseCpuinfo, AFlagIsAWholeWord) { EXPECT_FALSE(parse_cpuinfo(kTwoProcessors).has("ept_")); }

TEST(ParseCpuinfo, NothingIsNothing) {
  const CpuFacts facts = parse_cpuinfo("");
  EXPECT_TRUE(facts.model.empty());
  EXPECT_TRUE(facts.flags.empty());
}

TEST(FirstLineOf, DropsColoursAndLaterLines) {
  EXPECT_EQ(first_line_of("printf '\\033[1;31mred\\033[0m and plain\\nsecond\\n'"),
            "red and plain");
}

TEST(FirstLineOf, AMissingProgramSaysSo) {
  EXPECT_NE(first_line_of("/no/such/program"), "red and plain");
}

TEST(FindProgram, FindsTheShell) { EXPECT_FALSE(find_program("sh").empty()); }

TEST(FindProgram, AnUnknownNameIsEmpty) { EXPECT_TRUE(find_program("no-such-program").empty()); }

}  // namespace
}  // namespace twinwalk::cli
