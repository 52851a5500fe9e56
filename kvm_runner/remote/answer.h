#ifndef TWINWALK_KVM_RUNNER_REMOTE_ANSWER_H_
#define TWINWALK_KVM_RUNNER_REMOTE_ANSWER_H_

// The far end: runs what it is sent and says what came of it.

#include <functional>
#include <string>

#include "harness/subject.h"
#include "harness/trace/reply.h"
#include "kvm_runner/remote/line_channel.h"

namespace twinwalk::remote {

// Runs the program; the reply has the words of the image that its steps stored to.
void answer(Subject& subject, const Program& program, Reply& reply);

// The text of a `host` line, and what it says of the subject besides the version: "vendor=amd
// judged=architecture ...".
std::string describe(const SubjectInfo& info);

// What a far end is to its server.
class FarEnd {
 public:
  virtual ~FarEnd() = default;
  // What runs the programs. Null: nothing can, and describe() says why.
  virtual Subject* subject() = 0;
  // Carries out a command of the near end's; false if it knows none of that name.
  virtual bool carry_out(const std::string& command) = 0;
  // The text of a `host` line.
  virtual std::string describe() = 0;
  // Before a program.
  virtual void about_to_run() {}
  // After a program: what it reached, as bytes; empty if nobody asked for it.
  virtual std::string seen() { return {}; }
};

// Says what it is, then answers line after line. Returns when the near end is gone or says `bye`.
void serve(FarEnd& far_end, LineChannel& channel);

}  // namespace twinwalk::remote

#endif  // TWINWALK_KVM_RUNNER_REMOTE_ANSWER_H_
