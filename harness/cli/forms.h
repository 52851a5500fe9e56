#ifndef TWINWALK_HARNESS_CLI_FORMS_H_
#define TWINWALK_HARNESS_CLI_FORMS_H_

// The verbs that change a trace's form and nothing else: `fmt`, `encode`, `decode`.

#include <string>
#include <vector>

#include "harness/cli/input.h"

namespace twinwalk::cli {

// Brings text traces into canonical form in place; with `check` names those that are not and
// changes nothing (exit 1 if there is one). "-" formats standard input to standard output.
int format_traces(const std::vector<std::string>& paths, bool check);

// Writes the binary file form of the trace in `path` (text, or binary already) to `out`, "-" for
// standard output.
int encode_trace(const std::string& path, const std::string& out);

// Writes the canonical text of a binary trace to `out`.
int decode_trace(const std::string& path, const std::string& out, const Reading& reading);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_FORMS_H_
