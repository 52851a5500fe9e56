#ifndef TWINWALK_HARNESS_TRACE_REPLY_H_
#define TWINWALK_HARNESS_TRACE_REPLY_H_

// What a subject that runs elsewhere (in another kernel, on bare metal) answers to one program, as
// bytes. A program goes there as the trace of its own steps.

#include <cstdint>
#include <span>
#include <vector>

#include "harness/trace/op.h"
#include "harness/trace/outcome.h"
#include "harness/trace/program.h"

namespace twinwalk {

struct ImageWord {
  std::uint64_t gpa = 0, word = 0;  // 8-aligned, in memslot 0
  friend bool operator==(const ImageWord&, const ImageWord&) = default;
};

struct Reply {
  OutcomeStream outcomes;
  // The words that were stored to (stored_words.h), as they are at the end, by gpa; those that the
  // subject cannot read are left out.
  std::vector<ImageWord> image;
  void clear() {
    outcomes.clear();
    image.clear();
  }
};

// Appends to `out`.
void encode_reply(const Reply& reply, std::vector<std::uint8_t>& out);
// Replaces `reply`. False if the bytes are no reply: nothing of it counts then.
bool decode_reply(std::span<const std::uint8_t> bytes, Reply& reply);

// The trace whose operations are the program's steps: lowered again it gives the same steps, one an
// operation; but a first step that is part of a block stands alone. Replaces `out`.
void trace_of(const Program& program, Trace& out);

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_TRACE_REPLY_H_
