#ifndef TWINWALK_HARNESS_BARE_SUBJECT_H_
#define TWINWALK_HARNESS_BARE_SUBJECT_H_

// The subject `bare`: the simulated processor alone, with a trace as its hypervisor. There is no
// core; memory slot 0 is physical memory. trace/README.md §"Two dimensions".

#include <memory>

#include "harness/subject.h"

namespace twinwalk {

// `watch`, if any, outlives it.
std::unique_ptr<Subject> make_bare_subject(StepWatch* watch = nullptr);

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_BARE_SUBJECT_H_
