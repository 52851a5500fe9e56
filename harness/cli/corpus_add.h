#ifndef TWINWALK_HARNESS_CLI_CORPUS_ADD_H_
#define TWINWALK_HARNESS_CLI_CORPUS_ADD_H_

#include <string>

#include "harness/cli/input.h"

namespace twinwalk::cli {

struct CorpusAddOptions {
  std::string finding;  // a trace in any form
  Reading reading;
  bool as_is = false;  // not made smaller, nor asked to diverge: of a bug that is mended by now
  std::string story;   // what happened and why it was wrong, for people
  std::string name;    // stem of the file; empty: the divergence's class and hash
  std::string folder;  // empty: corpus/regress of this tree
};

// `corpus add`: FOLDER/NAME.walk, the smallest trace with the finding's divergence class, with its
// story and what the checker says of it as comments; prints its path. Exit 0. Throws Failure if it
// does not diverge, or the folder has that name or that trace already.
int add_to_corpus(const CorpusAddOptions& options);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_CORPUS_ADD_H_
