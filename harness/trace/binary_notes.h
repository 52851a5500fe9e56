#ifndef TWINWALK_HARNESS_TRACE_BINARY_NOTES_H_
#define TWINWALK_HARNESS_TRACE_BINARY_NOTES_H_

// What people wrote around a trace, in its binary form; the codec's, not public. Apart from the
// codec because it takes the text's parser, which does without a system less easily.

#include "harness/trace/op.h"

namespace twinwalk::binary {

// Notes come from untrusted bytes: kept only if the trace still reads as itself with them. False if
// dropped. Precondition: it has notes.
bool keep_legal_notes(Trace& trace);

}  // namespace twinwalk::binary

#endif  // TWINWALK_HARNESS_TRACE_BINARY_NOTES_H_
