#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include "reports/chart.h"
#include "reports/ci_formats.h"
#include "reports/escape.h"
#include "reports/html.h"
#include "reports/json.h"
#include "reports/page.h"
#include "reports/sample_report.h"
#include "reports/well_formed.h"

namespace twinwalk::reports {
namespace {

using ::testing::HasSubstr;
using testing::MarkupChecker;
using ::testing::Not;
using testing::sample_fuzz_report;
using testing::sample_results;

std::string markup_error(const std::string& text) { return MarkupChecker(text).check(); }

// The JSON that a page carries.
nlohmann::json embedded(const std::string& html) {
  const std::string open = "id=\"data\">";
  const std::size_t begin = html.find(open) + open.size();
  return nlohmann::json::parse(html.substr(begin, html.find("</script>", begin) - begin), nullptr,
                               false);
}

// Compares with a file in testdata; TWINWALK_BLESS=1 writes it.
void expect_golden(const std::string& name, const std::string& got) {
  const std::string path = std::string(TWINWALK_SOURCE_DIR "/reports/testdata/") + name;
  if (std::getenv("TWINWALK_BLESS")) {
    std::ofstream(path, std::ios::binary) << got;
    return;
  }
  std::ifstream in(path, std::ios::binary);
  const std::string want{std::istreambuf_iterator<char>(in), {}};
  std::size_t same = 0;
  while (same < got.size() && same < want.size() && got[same] == want[same]) ++same;
  const std::size_t from = same < 60 ? 0 : same - 60;
  EXPECT_TRUE(got == want) << name << " differs at byte " << same
                           << "\n got: " << got.substr(from, 160)
                           << "\nwant: " << want.substr(from, 160)
                           << "\nTWINWALK_BLESS=1 renews it";
}

TEST(Golden, FuzzHtml) { expect_golden("fuzz.html", to_html(sample_fuzz_report())); }
TEST(Golden, ResultsHtml) { expect_golden("results.html", to_html(sample_results())); }
TEST(Golden, FuzzJunit) { expect_golden("fuzz.junit.xml", to_junit(sample_fuzz_report())); }
TEST(Golden, ResultsJunit) { expect_golden("results.junit.xml", to_junit(sample_results())); }
TEST(Golden, FuzzMarkdown) { expect_golden("fuzz.md", to_markdown(sample_fuzz_report())); }
TEST(Golden, ResultsMarkdown) { expect_golden("results.md", to_markdown(sample_results())); }
TEST(Golden, FuzzSarif) { expect_golden("fuzz.sarif", to_sarif(sample_fuzz_report(), "0.1.0")); }
TEST(Golden, ResultsSarif) { expect_golden("results.sarif", to_sarif(sample_results(), "0.1.0")); }

TEST(WellFormed, CheckerSeesWhatIsWrong) {
  EXPECT_EQ(markup_error("<a b=\"c\">&amp;<d/></a>"), "");
  for (const char* bad : {"<a>", "</a>", "<a></b>", "<a b=c/>", "<a>&x;</a>", "<a/><b/>",
                          "<a b=\"<\"/>", "<a b=\"\" b=\"\"/>", "x", ""}) {
    EXPECT_NE(markup_error(bad), "") << bad;
  }
}

TEST(WellFormed, FullAndEmptyReports) {
  for (const FuzzReport& r : {sample_fuzz_report(), FuzzReport{}}) {
    EXPECT_EQ(markup_error(to_html(r)), "");
    EXPECT_EQ(markup_error(to_junit(r)), "");
    EXPECT_TRUE(nlohmann::json::parse(to_sarif(r, "1"), nullptr, false).is_object());
    EXPECT_TRUE(embedded(to_html(r)).is_object());
  }
  for (const Results& r : {sample_results(), Results{}}) {
    EXPECT_EQ(markup_error(to_html(r)), "");
    EXPECT_EQ(markup_error(to_junit(r)), "");
    EXPECT_TRUE(nlohmann::json::parse(to_sarif(r, "1"), nullptr, false).is_object());
    EXPECT_TRUE(embedded(to_html(r)).is_object());
  }
}

// Hostile text in every place that takes text.
TEST(WellFormed, WhateverTheTextIs) {
  for (const std::string evil :
       {"</script><script>alert(1)</script>", "\"'<>&", "\xff\xfe\x01\x1b[0m", "a\nb\r\nc", "]]>",
        "```\n# x", "\xed\xa0\x80"}) {
    FuzzReport r = sample_fuzz_report();
    for (std::string* s :
         {&r.title, &r.engine, &r.subject, &r.unicorn_version, &r.command, &r.started})
      *s = evil;
    for (Finding& f : r.findings) {
      for (std::string* s : {&f.name, &f.cls, &f.field, &f.got, &f.allowed, &f.rule, &f.rule_says,
                             &f.citation, &f.subject, &f.profile, &f.command, &f.trace_text})
        *s = evil;
      for (Walk& w : f.walks) {
        w.title = w.outcome = evil;
        w.last = {evil, {evil, evil}};
        for (WalkLevel& l : w.levels) {
          l.note = evil, l.level = 77, l.entry = ~std::uint64_t{0};
          l.nested = {evil, {evil}};
        }
      }
    }
    for (StateMap& s : r.states) {
      s.title = evil;
      for (auto* names : {&s.roles, &s.levels, &s.operations})
        for (std::string& n : *names) n = evil;
    }
    for (std::string& remark : r.remarks) remark = evil;
    for (KnownDeviation& k : r.known) k.id = k.subject = k.says = evil;
    EXPECT_EQ(markup_error(to_html(r)), "") << evil;
    EXPECT_EQ(markup_error(to_junit(r)), "") << evil;
    EXPECT_TRUE(embedded(to_html(r)).is_object()) << evil;
    EXPECT_TRUE(nlohmann::json::parse(to_sarif(r, evil), nullptr, false).is_object()) << evil;
    EXPECT_THAT(to_html(r), Not(HasSubstr("<script>alert")));

    Results q = sample_results();
    for (ResultLine& l : q.run)
      l.trace = l.verb = l.verdict = l.cls = l.field = l.got = l.allowed = l.rule = evil;
    for (ConformLine& c : q.conform)
      c.feature = c.subject = c.host = c.mode = c.result = c.why = evil;
    for (ZooLine& z : q.zoo) z.bug = z.by = evil;
    for (MutantLine& m : q.mutants) m.mutant = m.was = m.now = m.fate = m.by = m.how = evil;
    for (MutationScore& s : q.scores) s.side = evil;
    for (BenchLine& b : q.bench) b.row = b.unit = b.target = evil;
    for (FuzzLine& f : q.fuzz) f.engine = evil;
    EXPECT_EQ(markup_error(to_html(q)), "") << evil;
    EXPECT_EQ(markup_error(to_junit(q)), "") << evil;
    EXPECT_TRUE(embedded(to_html(q)).is_object()) << evil;
  }
}

TEST(Html, NeedsNothingFromTheNetwork) {
  for (const std::string& html : {to_html(sample_fuzz_report()), to_html(sample_results())}) {
    for (const char* outside : {"http:", "https:", "src=", "url(", "@import", "<link"}) {
      EXPECT_THAT(html, Not(HasSubstr(outside))) << outside;
    }
  }
}

TEST(Html, SaysWhatWasFound) {
  const std::string html = to_html(sample_fuzz_report());
  EXPECT_THAT(html, HasSubstr("<title>Twinwalk shadow-64: 1 new divergence</title>"));
  EXPECT_THAT(html, HasSubstr("<mark>access   write gva=0x400000</mark>"));
  EXPECT_THAT(html, HasSubstr("140,992,871"));
  EXPECT_LT(html.find("missed-fault-1f3a9c04"), html.find("wrong-error-code-00000001"));
  EXPECT_EQ(embedded(html)["findings"][0]["walks"][1]["levels"][3]["entry"], "0x5067");
  FuzzReport nothing;
  EXPECT_THAT(to_html(nothing), HasSubstr("nothing was checked"));
}

TEST(Html, EachKindOfPagingHasItsStates) {
  FuzzReport r;
  r.states = {{"Shadow paging", {"a"}, {"1"}, {"x"}, {3}},
              {"Two dimensions", {"b"}, {"1"}, {"y"}, {}}};
  const std::string html = to_html(r);
  EXPECT_THAT(html, HasSubstr("<h3>Shadow paging</h3>"));
  EXPECT_THAT(html, HasSubstr("a, 1, x: 3"));
  EXPECT_THAT(html, HasSubstr("<h3>Two dimensions</h3>\n<p class=\"muted\">None of 1"));
  EXPECT_EQ(embedded(html)["states"][1]["title"], "Two dimensions");
}

TEST(Html, LongTablesAreCutAndSaySo) {
  Results r;
  r.run.assign(Table::kMostRows + 7, sample_results().run[0]);
  EXPECT_THAT(to_html(r), HasSubstr("The first 5,000 of 5,007 rows"));
}

TEST(Junit, CountsItsCases) {
  const std::string xml = to_junit(sample_results());
  EXPECT_THAT(
      xml,
      HasSubstr("<testsuite name=\"run\" tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\""));
  EXPECT_THAT(xml, HasSubstr("<testsuite name=\"zoo\" tests=\"3\" failures=\"1\""));
  EXPECT_THAT(xml, HasSubstr("<testsuite name=\"bench\" tests=\"3\" failures=\"1\""));
  FuzzReport clean = sample_fuzz_report();
  clean.findings.clear();
  clean.new_divergences = 0;
  EXPECT_THAT(to_junit(clean), HasSubstr("tests=\"1\" failures=\"0\""));
  clean.new_divergences = 3;  // counted but not kept is no success
  EXPECT_THAT(to_junit(clean), HasSubstr("tests=\"1\" failures=\"1\""));
}

TEST(Sarif, HasOneResultADivergence) {
  const auto json = nlohmann::json::parse(to_sarif(sample_results(), "0.1.0"));
  ASSERT_EQ(json["runs"][0]["results"].size(), 1u);
  EXPECT_EQ(json["runs"][0]["results"][0]["ruleId"], "missed-fault");
  EXPECT_EQ(json["runs"][0]["tool"]["driver"]["rules"].size(), 1u);
}

// What the revision of before has too is told everywhere, and fails nowhere.
TEST(Baseline, WhatIsUnchangedFailsNothing) {
  Results results;
  results.run.resize(2);
  for (ResultLine& l : results.run) {
    l.verdict = "diverge";
    l.cls = "missed-fault";
  }
  results.run[0].baseline = "new";
  results.run[1].baseline = "unchanged";
  const auto sarif = nlohmann::json::parse(to_sarif(results, "0.1.0"))["runs"][0]["results"];
  ASSERT_EQ(sarif.size(), 2u);
  EXPECT_EQ(sarif[0]["baselineState"], "new");
  EXPECT_EQ(sarif[0]["level"], "error");
  EXPECT_EQ(sarif[1]["baselineState"], "unchanged");
  EXPECT_EQ(sarif[1]["level"], "note");
  EXPECT_THAT(to_junit(results),
              HasSubstr("tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"1\""));
  EXPECT_THAT(to_markdown(results), HasSubstr("| diverge (known) |"));
  EXPECT_THAT(to_html(results), HasSubstr(" known</td>"));
}

TEST(HeatMap, KnowsReachedWithoutCounts) {
  StateMap s{"t", {"a"}, {"1"}, {"x", "y"}, {1, 0}};
  EXPECT_THAT(heat_map(s), HasSubstr("1 of 2 combinations"));
  EXPECT_THAT(heat_map(s), HasSubstr("a, 1, x: reached"));
  EXPECT_THAT(heat_map(s), HasSubstr("a, 1, y: never"));
  s.counts = {17};
  EXPECT_THAT(heat_map(s), HasSubstr("a, 1, x: 17"));
  s.counts = {0, 0};
  EXPECT_THAT(heat_map(s), HasSubstr("None of 2 combinations"));
  EXPECT_THAT(heat_map({}), HasSubstr("No MMU states"));
}

TEST(LineChart, StaysWithinItsFrame) {
  EXPECT_THAT(line_chart("t", "s", {{1, 5}}), HasSubstr("Too short"));
  EXPECT_EQ(markup_error(line_chart("t", "s", {{0, 0}, {0, 0}})), "");
  EXPECT_EQ(markup_error(line_chart("t", "s", {{0, 1e300}, {1e-9, -0.0}, {2, 1.0 / 0.0}})), "");
  std::vector<Point> many;
  many.reserve(100'000);
  for (int i = 0; i < 100'000; ++i) many.push_back({i * 1.0, 100.0});
  EXPECT_LT(line_chart("t", "s", many).size(), 30'000u);
}

TEST(WalkPicture, MarksWhatDiffers) {
  const std::string same =
      walk_picture({{"a", "ok", {{1, 0, 0, 1, ""}}}, {"b", "ok", {{1, 0, 0, 1, ""}}}});
  EXPECT_THAT(same, Not(HasSubstr("differs")));
  const std::string other =
      walk_picture({{"a", "ok", {{1, 0, 0, 1, ""}}}, {"b", "ok", {{1, 0, 0, 3, ""}}}});
  EXPECT_THAT(other, HasSubstr("box differs"));
  EXPECT_THAT(other, HasSubstr("frame 0x0: p|w"));
}

TEST(WalkPicture, NestedWalksStandAboveWhatTheyLeadTo) {
  Walk a{"a", "ok", {{1, 0, 0, 1, "", {"gpa 0x9000 is hpa 0x9000", {"EPT1 first"}}}}};
  a.last = {"gpa 0x5000 is hpa 0x7000", {"EPT2 x", "EPT1 y"}};
  Walk b = a;
  b.last.lines[1] = "EPT1 z";
  const std::string same = walk_picture({a, a});
  EXPECT_THAT(same, Not(HasSubstr("differs")));
  EXPECT_LT(same.find("EPT1 first"), same.find("PT at 0x0"));
  EXPECT_LT(same.find("PT at 0x0"), same.find("EPT2 x"));
  const std::string other = walk_picture({a, b});
  EXPECT_THAT(other, HasSubstr("nested differs"));
  EXPECT_THAT(other, Not(HasSubstr("box differs")));
  // A walk that ends early has the nested walk that ended it in its next row.
  Walk early = a;
  early.levels.clear();
  EXPECT_EQ(markup_error(walk_picture({a, early})), "");
}

TEST(Html, TwoDimensionsAreInTheData) {
  const auto walks = embedded(to_html(sample_fuzz_report()))["findings"][2]["walks"];
  EXPECT_EQ(walks[1]["last"]["lines"][3], "EPT1 0x3001000|r|w|x|wb|a");
  EXPECT_EQ(walks[0]["levels"][0]["nested"]["title"], "gpa 0x102010 is hpa 0x102010");
  EXPECT_FALSE(walks[0]["levels"][1].contains("nested"));
}

TEST(Numbers, ReadWell) {
  EXPECT_EQ(grouped(0), "0");
  EXPECT_EQ(grouped(999), "999");
  EXPECT_EQ(grouped(1'000), "1,000");
  EXPECT_EQ(grouped(18'446'744'073'709'551'615u), "18,446,744,073,709,551,615");
  EXPECT_EQ(short_number(0), "0");
  EXPECT_EQ(short_number(950), "950");
  EXPECT_EQ(short_number(999.7), "1k");
  EXPECT_EQ(short_number(12'345), "12.3k");
}

TEST(Escape, Markdown) {
  EXPECT_EQ(escape_markdown("p|w <b> #1\n`x`"), "p\\|w \\<b\\> \\#1 \\`x\\`");
}

}  // namespace
}  // namespace twinwalk::reports
