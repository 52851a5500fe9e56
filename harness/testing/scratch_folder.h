#ifndef TWINWALK_HARNESS_TESTING_SCRATCH_FOLDER_H_
#define TWINWALK_HARNESS_TESTING_SCRATCH_FOLDER_H_

// For tests of what reads and writes files: a folder of its own for each test, gone with it.

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace twinwalk {

class ScratchFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "twinwalk-test-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  // Names below the folder.
  std::string at(const std::string& name) const { return (root_ / name).string(); }
  void put(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name, std::ios::binary) << text;
  }

  std::filesystem::path root_;
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_TESTING_SCRATCH_FOLDER_H_
