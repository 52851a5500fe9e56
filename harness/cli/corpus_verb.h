#ifndef TWINWALK_HARNESS_CLI_CORPUS_VERB_H_
#define TWINWALK_HARNESS_CLI_CORPUS_VERB_H_

// `corpus merge`, `minimise` and `stat`: folders of fuzzing inputs
// (harness/fuzzing/input_corpus.h).

#include <string>
#include <vector>

namespace twinwalk::cli {

struct CorpusOptions {
  std::string config = "all";
  std::vector<std::string> folders;  // merge: what is added to, then what is added
  bool json = false;                 // stat: one JSON object a folder
};

// Exit 0. Each throws Failure if a folder is not there, or the target cannot run.
int merge_corpus(const CorpusOptions& options);
int minimise_corpus(const CorpusOptions& options);
int stat_corpus(const CorpusOptions& options);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_CORPUS_VERB_H_
