#include "harness/cli/input.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "harness/cli/output.h"
#include "harness/fuzzing/config.h"
#include "harness/testing/scratch_folder.h"
#include "harness/trace/print.h"

namespace twinwalk::cli {
namespace {

namespace fs = std::filesystem;

// A folder of its own for each test.
using InputTest = ScratchFolder;

TEST_F(InputTest, AFolderIsItsWalksSorted) {
  put("b.walk", "");
  put("sub/a.walk", "");
  put("a.walk", "");
  put("notes.txt", "");
  const std::vector<std::string> wanted = {at("a.walk"), at("b.walk"), at("sub/a.walk")};
  EXPECT_EQ(expand_paths({root_.string()}), wanted);
}

TEST_F(InputTest, AFileIsItselfWhateverItsName) {
  put("notes.txt", "");
  EXPECT_EQ(expand_paths({at("notes.txt")}), std::vector<std::string>{at("notes.txt")});
}

TEST_F(InputTest, AFolderWithoutWalksIsRefused) {
  EXPECT_THROW(expand_paths({root_.string()}), Failure);
}

TEST_F(InputTest, WhatIsTooLargeIsRefusedUnread) {
  put("huge.walk", "");
  fs::resize_file(at("huge.walk"), std::uintmax_t{1} << 40);
  EXPECT_THROW(read_file(at("huge.walk")), Failure);
}

TEST_F(InputTest, ReadsAnEndlessDeviceNoFurtherThanTheLimit) {
  EXPECT_THROW(read_file("/dev/zero"), Failure);
}

TEST_F(InputTest, WritingReplacesTheWholeFile) {
  put("out.walk", "something that is longer than what comes");
  write_file(at("out.walk"), "short\n");
  EXPECT_EQ(read_file(at("out.walk")), "short\n");
}

TEST_F(InputTest, WritingKeepsPermissions) {
  put("out.walk", "");
  ASSERT_EQ(::chmod(at("out.walk").c_str(), 0640), 0);
  write_file(at("out.walk"), "x");
  struct stat status {};
  ASSERT_EQ(::stat(at("out.walk").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0640u);
}

TEST_F(InputTest, WritingThroughALinkKeepsTheLink) {
  put("real.walk", "old");
  fs::create_symlink(at("real.walk"), at("link.walk"));
  write_file(at("link.walk"), "new");
  EXPECT_TRUE(fs::is_symlink(at("link.walk")));
  EXPECT_EQ(read_file(at("real.walk")), "new");
}

TEST_F(InputTest, AFailedWriteLeavesNothingBehind) {
  EXPECT_THROW(write_file(at("none/out.walk"), "x"), Failure);
  EXPECT_THROW(write_file("/dev/full", "x"), Failure);
  EXPECT_TRUE(fs::is_empty(root_));
  EXPECT_TRUE(fs::is_character_file("/dev/full"));
}

TEST_F(InputTest, ATraceThatDoesNotParseNamesItsPlace) {
  put("bad.walk", "walk 1\nmachine core=shadow memory=64M vcpus=1\nfrobnicate\n");
  try {
    load_trace(at("bad.walk"), Input::kAny);
    FAIL() << "it was accepted";
  } catch (const Failure& failure) {
    EXPECT_EQ(std::string(failure.what()).rfind(at("bad.walk") + ":3:1: ", 0), 0u)
        << failure.what();
  }
}

// A service's testcase is what its target made of it: the machine is of the target's configuration.
TEST_F(InputTest, RawBytesAreReadAsTheTargetOfAConfigurationReadsThem) {
  put("testcase", "\x17\x80\x02\x55 whatever it may be");
  for (const char* config : {"ept", "npt", "shadow-32", "tdp-smp"}) {
    Reading reading(Input::kRaw);
    reading.config = config;
    const Trace trace = load_trace(at("testcase"), reading).trace;
    Trace again = trace;
    fuzz::find_config(config)->constrain(again);
    EXPECT_EQ(print(again), print(trace)) << config;
  }
  Reading reading(Input::kRaw);
  reading.config = "ept";
  EXPECT_EQ(load_trace(at("testcase"), reading).trace.machine.core, Dimension::kEpt);
  reading.config = "no-such";
  EXPECT_THROW(load_trace(at("testcase"), reading), Failure);
}

}  // namespace
}  // namespace twinwalk::cli
