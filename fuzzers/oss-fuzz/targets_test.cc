// A service has a target for each configuration that can be fuzzed without a host.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "harness/fuzzing/config.h"

namespace twinwalk::fuzz {
namespace {

TEST(ServiceTargets, AreThoseOfTheConfigurations) {
  std::ifstream in(TWINWALK_SOURCE_DIR "/fuzzers/oss-fuzz/targets.cmake");
  std::vector<std::string> listed, wanted;
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("set(configs ")) continue;
    std::istringstream words(line.substr(12, line.size() - 13));
    for (std::string word; words >> word;) listed.push_back(word);
  }
  for (const Config& config : configs())
    if (!config.needs_host) wanted.push_back(config.name);
  EXPECT_THAT(listed, testing::ElementsAreArray(wanted));
}

}  // namespace
}  // namespace twinwalk::fuzz
