#include "harness/trace/binary_notes.h"

#include "harness/trace/parse.h"
#include "harness/trace/print.h"

namespace twinwalk::binary {

bool keep_legal_notes(Trace& trace) {
  ParseResult again = parse(print(trace));
  if (again && again.trace == trace) return true;
  trace.requires_line.clear();
  trace.known.clear();
  trace.comments.clear();
  trace.expectations.clear();
  return false;
}

}  // namespace twinwalk::binary
