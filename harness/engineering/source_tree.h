#ifndef TWINWALK_HARNESS_ENGINEERING_SOURCE_TREE_H_
#define TWINWALK_HARNESS_ENGINEERING_SOURCE_TREE_H_

// The project's own files, as the tests of the tree see them.

#include <string>
#include <vector>

namespace twinwalk::engineering {

struct Include {
  std::string target;  // what stands between the quotes or brackets
  bool quoted = false;
  unsigned line = 0;  // from 1
};

struct SourceFile {
  std::string path;  // from the root of the tree, with forward slashes
  std::vector<std::string> lines;
  std::vector<Include> includes;
  bool is_test() const;    // NAME_test.cc, or in a folder called testing
  bool is_header() const;  // NAME.h
};

// Every .h, .cc, .c and .S below the source folders of `root`, sorted by path.
std::vector<SourceFile> read_tree(const std::string& root);

// Every folder of the source folders that holds a file of the project itself, sorted; from the root
// of the tree.
std::vector<std::string> folders_of(const std::string& root);

// The names at the top of the tree, sorted, without dot-files and what builds and runs leave there.
std::vector<std::string> top_level_of(const std::string& root);

}  // namespace twinwalk::engineering

#endif  // TWINWALK_HARNESS_ENGINEERING_SOURCE_TREE_H_
