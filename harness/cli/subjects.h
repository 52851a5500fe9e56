#ifndef TWINWALK_HARNESS_CLI_SUBJECTS_H_
#define TWINWALK_HARNESS_CLI_SUBJECTS_H_

// The words of --subject and --reference, made into what they name.

#include <memory>
#include <string>
#include <vector>

#include "harness/checker.h"
#include "harness/subject.h"
#include "kvm_runner/hosts/hosts.h"
#include "oracle/unicorn/client.h"

namespace twinwalk::cli {

struct NamedSubject {
  std::unique_ptr<Subject> subject;  // null: this machine cannot run it
  std::string why_not;
};

// The words of --subject and --host: "core", "bare", "kvm", "core-kvm" on "local", or what an
// emulated host has (kvm_runner/hosts/hosts.h), whose variant may be named: "qemu-svm:npt=1".
struct SubjectWords {
  std::string subject = "core", host = "local";
};
// Throws Failure for any other words.
NamedSubject make_subject(const SubjectWords& words);

// The variants of `host` that have the subject, all of them for an empty word; throws Failure if
// there is no such host, or it has none.
std::vector<const hosts::HostVariant*> variants_of(const std::string& host,
                                                   const std::string& subject);
std::string label_of(const hosts::HostVariant& variant);  // "qemu-svm:npt=1"
std::string host_names();                                 // of the emulated ones, for help

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
