#ifndef TWINWALK_KVM_RUNNER_KNOWN_TEXT_H_
#define TWINWALK_KVM_RUNNER_KNOWN_TEXT_H_

#include <string_view>

namespace twinwalk {

// corpus/known/kvm.json, put into the program by the build.
std::string_view known_text();

}  // namespace twinwalk

#endif  // TWINWALK_KVM_RUNNER_KNOWN_TEXT_H_
