// The stories of the corpus, through core and reference, with their `=` lines.

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "harness/checker.h"
#include "harness/core_subject.h"
#include "harness/trace/parse.h"

namespace twinwalk {
namespace {

std::vector<std::string> traces_of(const char* folder) {
  std::vector<std::string> paths;
  const std::filesystem::path at = std::filesystem::path(TWINWALK_SOURCE_DIR) / "corpus" / folder;
  if (std::filesystem::exists(at)) {
    for (const auto& entry : std::filesystem::directory_iterator(at)) {
      if (entry.path().extension() == ".walk") paths.push_back(entry.path().string());
    }
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

class Corpus : public testing::TestWithParam<std::string> {};
const auto kName = [](const auto& param) {
  std::string name = std::filesystem::path(param.param).stem().string();
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); },
      '_');
  return name;
};
INSTANTIATE_TEST_SUITE_P(Seed, Corpus, testing::ValuesIn(traces_of("seed")), kName);
INSTANTIATE_TEST_SUITE_P(Regress, Corpus, testing::ValuesIn(traces_of("regress")), kName);

TEST_P(Corpus, Agrees) {
  std::ifstream file(GetParam());
  std::stringstream text;
  text << file.rdbuf();
  const ParseResult parsed = parse(text.str(), GetParam());
  ASSERT_TRUE(parsed) << to_text(*parsed.error);
  const auto subject = make_core_subject();
  Checker checker(*subject);
  checker.check(parsed.trace, [](const CheckEvent& e) {
    if (e.verdict.kind != VerdictKind::kDiverge || e.known) return;
    ADD_FAILURE() << "operation " << e.op << ": " << name_of(e.verdict.divergence) << ", "
                  << e.verdict.field << "\n  got     " << e.verdict.got << "\n  allowed "
                  << e.verdict.allowed;
  });
}

}  // namespace
}  // namespace twinwalk
