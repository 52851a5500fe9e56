#include "reports/results.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "reports/ci_formats.h"
#include "reports/conform_matrix.h"

namespace twinwalk::reports {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

Results read(std::string_view text) {
  Results out;
  const auto error = read_results(text, "r.jsonl", out);
  EXPECT_FALSE(error) << *error;
  return out;
}

std::string error_of(std::string_view text) {
  Results out;
  const auto error = read_results(text, "r.jsonl", out);
  EXPECT_TRUE(error) << text;
  return error.value_or("");
}

TEST(Results, LinesOfRunComeBackAsTheyWere) {
  ResultLine line;
  line.trace = "corpus/seed/a.walk";
  line.op = 7;
  line.vcpu = 1;
  line.verb = "access";
  line.verdict = "diverge";
  line.cls = "missed-fault";
  line.got = "ok";
  line.baseline = "new";
  RunSummary summary;
  summary.traces = 3;
  summary.unicorn_checks = 5;
  const Results r = read(to_json(line) + "\n" + to_json(summary) + "\n");
  ASSERT_EQ(r.run.size(), 1u);
  EXPECT_EQ(to_json(r.run[0]), to_json(line));
  ASSERT_EQ(r.summaries.size(), 1u);
  EXPECT_EQ(to_json(r.summaries[0]), to_json(summary));
}

TEST(Results, EveryKindIsKnownByItsKeys) {
  const Results r = read(
      R"({"feature":"NX","subject":"kvm","host":"local","mode":"4-level","result":"pass","checks":12,"why":""})"
      "\n\n"
      R"({"bug":"b","reached":true,"triggered":true,"detected":false,"by":null,"seconds":1.5,"execs":9})"
      "\r\n"
      R"({"mutant":"a.cc:1:2:drop","was":"x","now":"","fate":"survived","by":"","how":""})"
      "\n"
      R"({"summary":{"side":"core","mutants":4,"killed":3,"survived":1,"score":75.0,"bound":80}})"
      "\n"
      R"({"row":"walk","value":20.5,"unit":"ns","limit":18,"ratio":1.1,"target":"<= 1.5","holds":true})"
      "\n"
      R"({"row":"rss","value":31,"unit":"MiB","limit":null,"ratio":null,"target":null,"holds":null})");
  ASSERT_EQ(r.conform.size(), 1u);
  EXPECT_EQ(r.conform[0].checks, 12u);
  ASSERT_EQ(r.zoo.size(), 1u);
  EXPECT_TRUE(r.zoo[0].reached);
  EXPECT_FALSE(r.zoo[0].detected);
  EXPECT_EQ(r.zoo[0].by, "");
  ASSERT_EQ(r.mutants.size(), 1u);
  EXPECT_EQ(r.mutants[0].fate, "survived");
  ASSERT_EQ(r.scores.size(), 1u);
  EXPECT_EQ(r.scores[0].score, 75);
  EXPECT_TRUE(r.summaries.empty()) << "that of run is another";
  ASSERT_EQ(r.bench.size(), 2u);
  EXPECT_TRUE(*r.bench[0].holds);
  EXPECT_FALSE(r.bench[1].holds.has_value());
}

TEST(ConformMatrix, IsATableForEachSubjectOnAHost) {
  const std::vector<ConformLine> lines = {{"nx", "core", "local", "none", "skip", "", 0},
                                          {"nx", "kvm", "local", "4-level", "pass", "", 7},
                                          {"wp", "core", "local", "4-level", "fail", "", 3},
                                          {"nx", "core", "local", "4-level", "pass", "", 5}};
  const std::vector<ConformMatrix> all = conform_matrices(lines);
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].subject, "core");
  EXPECT_EQ(all[0].modes, (std::vector<std::string>{"none", "4-level"}));
  ASSERT_EQ(all[0].rows.size(), 2u);
  EXPECT_EQ(all[0].rows[0].cells, (std::vector<const ConformLine*>{&lines[0], &lines[3]}));
  EXPECT_EQ(all[0].rows[1].feature, "wp");
  EXPECT_EQ(all[0].rows[1].cells, (std::vector<const ConformLine*>{nullptr, &lines[2]}));
  EXPECT_EQ(all[1].rows[0].cells, (std::vector<const ConformLine*>{&lines[1]}));
}

// A summary is cut somewhere, but never before what failed.
TEST(ConformMatrix, MarkdownTellsOfEveryCellAndOfFailuresFirst) {
  Results r;
  for (int i = 0; i < 300; ++i)
    r.conform.push_back({fmt::format("f{}", i), "kvm", "local", "pae", "skip", "because", 1});
  r.conform.push_back({"last", "kvm", "local", "pae", "fail", "no flush", 2});
  const std::string text = to_markdown(r);
  EXPECT_NE(text.find("| f299 | skip 1 |"), text.npos);
  EXPECT_NE(text.find("| last | **fail 2** |"), text.npos);
  EXPECT_LT(text.find("| fail | last | pae | kvm | local | no flush |"),
            text.find("| skip | f0 | pae | kvm | local | because |"));
  EXPECT_NE(text.find("201 more."), text.npos);
}

TEST(Results, ASummaryOfFuzzMayTakeSeveralLines) {
  const Results r = read(
      "{\n \"execs\": 5,\n \"execs_per_second\": 2.5,\n \"divergences\": 1,\n \"engine\": "
      "\"afl\"\n}\n");
  ASSERT_EQ(r.fuzz.size(), 1u);
  EXPECT_EQ(r.fuzz[0].engine, "afl");
  EXPECT_EQ(r.fuzz[0].execs, 5u);
}

TEST(Results, ErrorsNameFileAndLine) {
  EXPECT_THAT(error_of(""), StartsWith("r.jsonl: found no result line"));
  EXPECT_THAT(error_of("{\"row\":\"a\",\"value\":1}\nnot json\n"),
              StartsWith("r.jsonl:2: found what is not JSON"));
  EXPECT_THAT(error_of("[1]\n"), StartsWith("r.jsonl:1: found JSON that is not an object"));
  EXPECT_THAT(error_of("{\"a\":1}\n"), StartsWith("r.jsonl:1: found an object of another kind"));
  EXPECT_THAT(error_of("{\"row\":\"a\",\"value\":\"x\"}"), HasSubstr("`value` is not a number"));
  EXPECT_THAT(error_of("{\"bug\":\"a\",\"detected\":1}"),
              HasSubstr("`detected` is not true or false"));
  EXPECT_THAT(error_of("{\"execs\":-1,\"divergences\":0}"), HasSubstr("`execs` is negative"));
  EXPECT_THAT(error_of("{\"execs\":1e300,\"divergences\":0}"),
              HasSubstr("`execs` is out of range"));
}

TEST(Results, RandomBytesGiveOneLineOrNothing) {
  std::mt19937_64 random(1);
  for (int n = 0; n < 5000; ++n) {
    std::string text = n % 2 ? "{\"row\":\"a\",\"value\":" : "";
    for (std::uint64_t size = random() % 60; size; --size) text += static_cast<char>(random());
    Results out;
    const auto error = read_results(text, "r", out);
    if (error) {
      EXPECT_EQ(error->find('\n'), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace twinwalk::reports
