#ifndef TWINWALK_HARNESS_CLI_CONFORM_VERB_H_
#define TWINWALK_HARNESS_CLI_CONFORM_VERB_H_

#include <string>

namespace twinwalk::cli {

struct ConformOptions {
  std::string subject;  // empty: all that the host has
  std::string host = "local";
  std::string mode;  // empty: all
  bool corpus = true;
  bool full = false;   // every case, also where the host is slow
  bool quick = false;  // a few cases a row
  bool reload_module = false;
  int cpu = -1;        // this process, and what it starts, stay on that processor; -1: anywhere
  double seconds = 0;  // columns that have not begun by then are skipped; 0: no limit
  bool json = false;
  // Folder for the lines (conform.jsonl), the report as HTML, Markdown and JUnit, and the findings,
  // minimised; empty: none.
  std::string out;
};

// `conform`: the conformance suite as a matrix of features by subjects, hosts and modes. Exit 0, or
// 1 if a feature fails.
int conform(const ConformOptions& options);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_CONFORM_VERB_H_
