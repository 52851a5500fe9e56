#ifndef TWINWALK_HARNESS_CLI_SUBJECTS_H_
#define TWINWALK_HARNESS_CLI_SUBJECTS_H_

// The words of --subject and --reference, made into what they name.

#include <memory>
#include <string>

#include "harness/checker.h"
#include "harness/subject.h"
#include "oracle/unicorn/client.h"

namespace twinwalk::cli {

struct NamedSubject {
  std::unique_ptr<Subject> subject;  // null: this machine cannot run it
  std::string why_not;
};
// "core", "bare", "kvm" or "core-kvm"; throws Failure for any other word.
NamedSubject make_subject(const std::string& word);

// Lets the checker take what its subject's host is known to do wrong (corpus/known/kvm.json) for
// known.
void accept_host_deviations(Checker& checker);

// The reference `unicorn`, not yet started.
std::unique_ptr<oracle::UnicornClient> make_unicorn();

// "spec" or "spec,unicorn" in any order; spec is always used. Empty: both, Unicorn where it can be
// had.
struct References {
  bool unicorn = false;
  bool asked = false;  // by name, so that its lack is an error
};
References parse_references(const std::string& words);

// Null, with a note on standard error, if it cannot run and was not asked for; throws Failure if it
// was.
std::unique_ptr<oracle::UnicornClient> start_unicorn(const References& references);

// Path of a program that is built beside this one.
std::string sibling_program(const std::string& name);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_SUBJECTS_H_
