// Every trace of the corpus: canonical text, and agreement with the reference.

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "harness/checker.h"
#include "harness/own_subject.h"
#include "harness/trace/load.h"
#include "harness/trace/print.h"

namespace twinwalk {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> walks(const std::string& folder) {
  std::vector<fs::path> found;
  for (const auto& entry :
       fs::directory_iterator(fs::path(TWINWALK_SOURCE_DIR) / "corpus" / folder))
    if (entry.path().extension() == ".walk") found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

std::string contents(const fs::path& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

class Folder : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Corpus, Folder, testing::Values("seed", "regress", "zoo"),
                         [](const auto& param) { return std::string(param.param); });

TEST(Corpus, IsCanonicalAndSaysWhatItIsAbout) {
  for (const char* folder : {"seed", "regress", "known", "zoo"}) {
    for (const fs::path& path : walks(folder)) {
      const ParseResult read = load_trace(path.string());
      ASSERT_TRUE(read) << to_text(*read.error);
      EXPECT_EQ(print(read.trace), contents(path)) << path;
      EXPECT_FALSE(read.trace.comments.empty()) << path;
    }
  }
}

TEST_P(Folder, AgreesWithTheReference) {
  const auto subject = make_own_subject();
  Checker checker(*subject);
  for (const fs::path& path : walks(GetParam())) {
    const ParseResult read = load_trace(path.string());
    ASSERT_TRUE(read) << to_text(*read.error);
    const CheckResult result = checker.check(read.trace, [&](const CheckEvent& e) {
      EXPECT_NE(e.verdict.kind, VerdictKind::kDiverge)
          << path << " op " << e.op << ": " << name_of(e.verdict.divergence) << ", got "
          << e.verdict.got << ", allowed " << e.verdict.allowed;
    });
    EXPECT_TRUE(result.executed) << path;
    EXPECT_GT(result.steps, 0u) << path;
  }
}

TEST(Corpus, HasTheStoriesThatItClaims) { EXPECT_GE(walks("seed").size(), 60u); }

class StoriesOf : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(EveryMode, StoriesOf,
                         testing::Values("none", "legacy32", "pae", "la57", "modes"),
                         [](const auto& param) { return std::string(param.param); });

TEST_P(StoriesOf, AreMany) {
  const std::string first_word = std::string(GetParam()) + "-";
  const std::vector<fs::path> all = walks("seed");
  const auto of_mode = [&](const fs::path& path) {
    return path.filename().string().rfind(first_word, 0) == 0;
  };
  EXPECT_GE(std::count_if(all.begin(), all.end(), of_mode), 15);
}

TEST(Corpus, EverySeededBugHasPatchAndTrace) {
  for (const auto& entry : fs::directory_iterator(fs::path(TWINWALK_SOURCE_DIR) / "corpus/zoo")) {
    fs::path twin = entry.path();
    if (twin.extension() == ".patch")
      EXPECT_TRUE(fs::exists(twin.replace_extension(".walk"))) << twin;
    twin = entry.path();
    if (twin.extension() == ".walk")
      EXPECT_TRUE(fs::exists(twin.replace_extension(".patch"))) << twin;
  }
}

}  // namespace
}  // namespace twinwalk
