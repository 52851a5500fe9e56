#ifndef TWINWALK_KVM_RUNNER_CONFORM_H_
#define TWINWALK_KVM_RUNNER_CONFORM_H_

// The conformance suite: features of the MMU, each a set of traces, run on a subject and judged by
// whoever calls (this folder knows no oracle).

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "harness/subject.h"
#include "harness/trace/op.h"

namespace twinwalk {

struct ConformCase {
  std::string name;  // within its feature
  std::string text;  // `.walk`
};

struct ConformFeature {
  std::string_view name;   // a row of the matrix
  std::string_view about;  // one sentence
  bool nested;             // its traces are a hypervisor
  std::vector<ConformCase> (*cases)();
};

// The rows for a paging mode, in the order of the matrix; empty for a mode that has none yet.
std::span<const ConformFeature> conform_features(Mode mode);

// Makes the trace one for that subject's host: a machine that says no other vendor is one of the
// vendor that the host has, and the core is of the dimension that the subject has.
void fit_to_host(Trace& trace, const SubjectInfo& info);

// What is asked of a subject: rows of traces.
struct ConformTrace {
  std::string name;  // within its row
  Trace trace;
};
struct ConformRow {
  std::string feature, mode;
  std::vector<ConformTrace> traces;
};
struct ConformChoice {
  std::vector<Mode> modes;     // the suite's rows of these
  bool corpus = false;         // and the corpus's traces (corpus/seed, corpus/regress), by mode
  std::size_t most_cases = 0;  // so many a row, evenly spread over it; 0: all
};
// For a subject of that kind, in the order of the matrix.
std::vector<ConformRow> conform_rows(const ConformChoice& choice, const SubjectInfo& info);

// What the judge found in one case.
struct CaseVerdict {
  std::uint64_t checks = 0;
  std::uint64_t diverge = 0;  // not accepted by the ledger
  std::uint64_t known = 0;    // accepted
  std::uint64_t skip = 0;     // steps that the subject did not execute
  std::string why;  // of the first divergence, accepted one or skipped step, in that order
};
using ConformJudge = std::function<CaseVerdict(const Trace& trace, Subject& subject)>;

enum class ConformResult : std::uint8_t { kPass, kKnown, kFail, kSkip };
std::string_view name_of(ConformResult result);  // "pass" ...

struct ConformLine {
  std::string feature, subject, host, mode;
  ConformResult result = ConformResult::kPass;
  std::uint64_t checks = 0;
  std::string why;
  std::vector<ConformTrace> failed;  // those that diverged
};
// {"feature","subject","host","mode","result","checks","why"}; no newline.
std::string to_json(const ConformLine& line);

// Runs every row on the subject, in order. A case with a step that the subject skipped counts as
// skipped, since what it was made for may not have happened: a row passes if some case ran in full
// and none failed. `on_line` sees each row when it is done.
std::vector<ConformLine> conform(Subject& subject, std::string_view host,
                                 std::span<const ConformRow> rows, const ConformJudge& judge,
                                 const std::function<void(const ConformLine&)>& on_line = {});

// Rows features, columns subject × host × mode, as text.
std::string conform_matrix(std::span<const ConformLine> lines);

}  // namespace twinwalk

#endif  // TWINWALK_KVM_RUNNER_CONFORM_H_
