#ifndef TWINWALK_HARNESS_OWN_SUBJECT_H_
#define TWINWALK_HARNESS_OWN_SUBJECT_H_

// The subject that a trace's machine names: `bare` for core=bare, otherwise `core`.

#include <memory>

#include "harness/core_subject.h"
#include "harness/subject.h"

namespace twinwalk {

std::unique_ptr<Subject> make_own_subject(CoreSubjectOptions options = {});

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_OWN_SUBJECT_H_
