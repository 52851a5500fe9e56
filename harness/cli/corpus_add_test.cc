#include "harness/cli/corpus_add.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "harness/cli/output.h"
#include "harness/testing/scratch_folder.h"

namespace twinwalk::cli {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr const char* kAgrees =
    "walk 1\nmachine  core=shadow memory=64M vcpus=1\nmap      gva=0x400000 gpa=0x5000\n"
    "access   read gva=0x400000\n";

class CorpusAdd : public ScratchFolder {
 protected:
  void SetUp() override {
    ScratchFolder::SetUp();
    options_.folder = root_.string();
    options_.finding = at("finding");
    options_.story = "What a test wants of it.";
    // An expectation that is wrong is the one divergence that a sound core shows.
    put(std::string(kAgrees) + "  = ok gpa=0x7000\n");
  }

  void put(const std::string& text) const { std::ofstream(options_.finding) << text; }
  std::string text_of(const std::string& name) const {
    std::ostringstream out;
    out << std::ifstream(root_ / name).rdbuf();
    return out.str();
  }
  // The one trace there.
  std::string added() const {
    for (const auto& entry : fs::directory_iterator(root_))
      if (entry.path().extension() == ".walk") return text_of(entry.path().filename().string());
    return "";
  }
  void refuses(const std::string& why) {
    EXPECT_THAT([this] { add_to_corpus(options_); }, ThrowsMessage<Failure>(HasSubstr(why)));
  }

  CorpusAddOptions options_;
};

TEST_F(CorpusAdd, IsSmallAndTellsWhatItIs) {
  EXPECT_EQ(add_to_corpus(options_), kExitGood);
  const std::string text = added();
  EXPECT_THAT(text, HasSubstr("# What a test wants of it.\n# expectation in expectation"));
  EXPECT_THAT(text, HasSubstr("Rule expectation: "));
  EXPECT_THAT(text, Not(HasSubstr("map ")));
}

TEST_F(CorpusAdd, RefusesWhatIsThere) {
  options_.name = "one";
  EXPECT_EQ(add_to_corpus(options_), kExitGood);
  const std::string before = text_of("one.walk");
  refuses("is there already");
  EXPECT_EQ(text_of("one.walk"), before);
  options_.name = "another";
  refuses("one.walk is that trace");
}

TEST_F(CorpusAdd, WhatAgreesIsTakenAsItIsOnly) {
  put(kAgrees);
  refuses("does not diverge");
  options_.as_is = true;
  refuses("--name");
  options_.name = "mended";
  EXPECT_EQ(add_to_corpus(options_), kExitGood);
  EXPECT_THAT(text_of("mended.walk"), HasSubstr("map "));
  options_.story.clear();
  refuses("--story");
}

TEST_F(CorpusAdd, ANameIsTheStemOfAFile) {
  for (const char* name : {"../up", ".hidden"}) {
    options_.name = name;
    refuses("--name");
  }
}

}  // namespace
}  // namespace twinwalk::cli
