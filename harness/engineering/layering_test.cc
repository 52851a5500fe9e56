// The arrows of the architecture: who may include whom. Whatever is not allowed here is forbidden.

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "harness/engineering/source_tree.h"

namespace twinwalk::engineering {
namespace {

bool starts_with(const std::string& text, const std::string& prefix) {
  return text.compare(0, prefix.size(), prefix) == 0;
}

// True if `word` stands in `text` with no letter on either side (mkdtemp's pattern is no promise).
bool has_word(const std::string& text, const std::string& word) {
  const auto letter = [&](std::size_t i) {
    return i < text.size() && std::isalpha(static_cast<unsigned char>(text[i])) != 0;
  };
  for (auto at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) {
    if (!letter(at + word.size()) && (at == 0 || !letter(at - 1))) return true;
  }
  return false;
}

const std::vector<SourceFile>& tree() {
  static const std::vector<SourceFile> files = read_tree(TWINWALK_SOURCE_DIR);
  return files;
}

// Files whose path starts with `from` may include project files whose path starts with one of `to`.
// The longest `from` that fits a file decides.
struct Arrow {
  std::string from;
  std::vector<std::string> to;
};
const std::vector<Arrow>& arrows() {
  static const std::vector<Arrow> kArrows = {
      {"mmu_core/", {"mmu_core/"}},
      {"harness/trace/", {"harness/trace/"}},
      {"oracle/", {"oracle/", "harness/trace/"}},
      {"harness/", {"harness/", "oracle/"}},
      // The one adapter between programs and core, and the subject that puts it on the simulated
      // processor.
      {"harness/core/", {"harness/core/", "harness/subject.h", "harness/trace/", "mmu_core/"}},
      {"harness/core_subject", {"harness/", "mmu_core/"}},
      // The core with real threads.
      {"harness/threads/", {"harness/", "mmu_core/"}},
      // The command line puts everything together; the core only through the adapter.
      {"harness/cli/",
       {"harness/", "oracle/", "reports/", "kvm_runner/", "fuzzers/batch_fuzzer.h"}},
      // The driver of the verb `fuzz` ends in a report.
      {"harness/engineering/", {"harness/engineering/"}},
      {"fuzzers/", {"fuzzers/", "harness/"}},
      {"kvm_runner/", {"kvm_runner/", "harness/trace/", "harness/subject.h"}},
      {"kvm_runner/core_", {"kvm_runner/", "harness/trace/", "harness/core/", "mmu_core/"}},
      // The core on bare metal, with what it needs of a system.
      {"kvm_runner/vmx_image/",
       {"kvm_runner/", "harness/trace/", "harness/core/", "harness/subject.h", "mmu_core/"}},
      // Tests on real MMUs hold what they saw against the reference.
      {"kvm_runner/testing/",
       {"kvm_runner/", "harness/trace/", "harness/subject.h", "harness/testing/", "oracle/"}},
      {"reports/", {"reports/", "harness/trace/"}},
      // Tests of the traces themselves.
      {"corpus/", {"harness/"}},
  };
  return kArrows;
}

const Arrow* arrow_of(const std::string& path) {
  const Arrow* best = nullptr;
  for (const Arrow& arrow : arrows()) {
    if (starts_with(path, arrow.from) &&
        (best == nullptr || arrow.from.size() > best->from.size())) {
      best = &arrow;
    }
  }
  return best;
}

TEST(Layering, TheTreeIsFound) { EXPECT_GT(tree().size(), 10u); }

TEST(Layering, ProjectIncludesFollowTheArrows) {
  for (const SourceFile& file : tree()) {
    const Arrow* arrow = arrow_of(file.path);
    ASSERT_NE(arrow, nullptr) << file.path << " is in no known folder";
    for (const Include& include : file.includes) {
      if (!include.quoted) continue;
      const bool allowed =
          std::any_of(arrow->to.begin(), arrow->to.end(),
                      [&](const std::string& to) { return starts_with(include.target, to); });
      EXPECT_TRUE(allowed) << file.path << ":" << include.line << " includes " << include.target
                           << ", which is not below any folder that " << arrow->from << " may see";
    }
  }
}

TEST(Layering, TheCoreIncludesOnlyFreestandingHeaders) {
  static const std::set<std::string> kFreestanding = {
      "array",   "atomic", "bit", "compare", "concepts",    "cstddef", "cstdint",
      "cstring", "limits", "new", "span",    "type_traits", "utility"};
  for (const SourceFile& file : tree()) {
    if (!starts_with(file.path, "mmu_core/") || file.is_test()) continue;
    for (const Include& include : file.includes) {
      if (include.quoted) continue;
      EXPECT_EQ(kFreestanding.count(include.target), 1u)
          << file.path << ":" << include.line << " includes <" << include.target << ">";
    }
  }
}

TEST(Layering, OnlyTheUnicornProcessIncludesUnicorn) {
  for (const SourceFile& file : tree()) {
    for (const Include& include : file.includes) {
      if (!starts_with(include.target, "unicorn/")) continue;
      EXPECT_TRUE(starts_with(file.path, "oracle/unicorn/") &&
                  !starts_with(file.path, "oracle/unicorn/client"))
          << file.path << ":" << include.line << " includes the engine";
    }
  }
}

// What clang 14, the compiler that Debian 12's AFL++ drives, has not got.
TEST(Layering, NoHeaderThatTheOldestCompilerLacks) {
  static const std::set<std::string> kTooNew = {"source_location", "ranges", "format",   "expected",
                                                "print",           "mdspan", "generator"};
  for (const SourceFile& file : tree()) {
    for (const Include& include : file.includes) {
      EXPECT_EQ(kTooNew.count(include.target), 0u)
          << file.path << ":" << include.line << " includes <" << include.target << ">";
    }
  }
}

TEST(Tree, TheTopLevelIsFixed) {
  static const std::set<std::string> kAllowed = {
      "CMakeLists.txt", "CMakePresets.json", "CONTRIBUTING.md", "LICENSE",    "README.md",
      "corpus",         "fuzzers",           "harness",         "kvm_runner", "mmu_core",
      "oracle",         "reports",           "twinwalk"};
  for (const std::string& name : top_level_of(TWINWALK_SOURCE_DIR)) {
    EXPECT_EQ(kAllowed.count(name), 1u) << name << " does not belong at the top level";
  }
}

TEST(Tree, EveryFolderHasAReadme) {
  for (const std::string& folder : folders_of(TWINWALK_SOURCE_DIR)) {
    EXPECT_TRUE(
        std::filesystem::exists(std::string(TWINWALK_SOURCE_DIR) + "/" + folder + "/README.md"))
        << folder << " has no README.md";
  }
}

TEST(Tree, FilesAreSmallEnoughToHoldInMind) {
  constexpr std::size_t kMost = 900;
  for (const SourceFile& file : tree()) {
    EXPECT_LE(file.lines.size(), kMost) << file.path;
  }
}

TEST(Tree, IncludeGuardsNameTheirFile) {
  for (const SourceFile& file : tree()) {
    if (!file.is_header()) continue;
    std::string guard = starts_with(file.path, "mmu_core/") ? "" : "TWINWALK_";
    for (char c : file.path) {
      const auto byte = static_cast<unsigned char>(c);
      guard += std::isalnum(byte) != 0 ? static_cast<char>(std::toupper(byte)) : '_';
    }
    guard += '_';
    const bool found =
        std::find(file.lines.begin(), file.lines.end(), "#ifndef " + guard) != file.lines.end();
    EXPECT_TRUE(found) << file.path << " has no include guard " << guard;
  }
}

// What is not done is said in a README, not promised in a comment.
TEST(Tree, NothingIsPutOffInAComment) {
  // In two halves, so that this file does not find itself.
  static const std::string kMarks[] = {std::string("TO") + "DO", std::string("FIX") + "ME",
                                       std::string("XX") + "X", std::string("HA") + "CK"};
  for (const SourceFile& file : tree()) {
    for (std::size_t i = 0; i < file.lines.size(); ++i) {
      for (const std::string& mark : kMarks) {
        EXPECT_FALSE(has_word(file.lines[i], mark)) << file.path << ":" << i + 1 << " has " << mark;
      }
    }
  }
}

}  // namespace
}  // namespace twinwalk::engineering
