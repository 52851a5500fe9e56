// What is kept of a first start, and what becomes of it.

#include "kvm_runner/hosts/qemu_svm.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <future>
#include <string>
#include <vector>

#include "kvm_runner/hosts/emulator.h"
#include "kvm_runner/hosts/host_files.h"

namespace twinwalk::hosts {
namespace {

namespace fs = std::filesystem;

// A build folder of its own, with what the host boots from and no state yet.
class QemuSvmTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (output_of("qemu-system-x86_64 --version").empty()) GTEST_SKIP() << "QEMU cannot be run";
    std::string why;
    if (host_file("linux/initrd", why).empty()) GTEST_SKIP() << why;
    const std::string real = host_folder(), own = scratch_.file("build");
    fs::create_directories(own + "/hosts");
    fs::create_directory_symlink(real + "/linux", own + "/hosts/linux");
    if (const char* build = std::getenv("TWINWALK_BUILD_DIR")) before_ = build;
    setenv("TWINWALK_BUILD_DIR", own.c_str(), 1);
  }
  void TearDown() override {
    if (before_.empty())
      unsetenv("TWINWALK_BUILD_DIR");
    else
      setenv("TWINWALK_BUILD_DIR", before_.c_str(), 1);
  }
  static std::string start() {
    std::string why;
    const auto link = start_qemu_svm("npt=1", {}, why);
    return link == nullptr ? "not there: " + why : "there";
  }
  static std::vector<fs::path> kept() {
    std::vector<fs::path> out;
    for (const auto& entry : fs::directory_iterator(host_folder())) {
      if (entry.is_regular_file()) out.push_back(entry.path());
    }
    return out;
  }

 private:
  ScratchFolder scratch_;
  std::string before_;
};

TEST_F(QemuSvmTest, ThoseWhoStartAtOnceShareOneState) {
  auto other = std::async(std::launch::async, start);
  EXPECT_EQ(start(), "there");
  EXPECT_EQ(other.get(), "there");
  EXPECT_EQ(kept().size(), 1u);
  EXPECT_TRUE(qemu_svm_is_saved());
}

TEST_F(QemuSvmTest, AStateThatCannotBeLoadedIsNotTriedAgain) {
  ASSERT_EQ(start(), "there");
  ASSERT_EQ(kept().size(), 1u);
  fs::resize_file(kept().front(), fs::file_size(kept().front()) / 2);
  EXPECT_EQ(start(), "there");
  EXPECT_TRUE(kept().empty());
}

}  // namespace
}  // namespace twinwalk::hosts
