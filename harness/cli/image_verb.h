#ifndef TWINWALK_HARNESS_CLI_IMAGE_VERB_H_
#define TWINWALK_HARNESS_CLI_IMAGE_VERB_H_

#include <string>
#include <vector>

namespace twinwalk::cli {

// `image`: writes an ISO that boots the core as a VMX hypervisor, with traces in it: those of the
// paths, or without any the conformance suite and the corpus, for shadow paging and for EPT.
// `report` reads what the machine then says over its serial port.
int write_image(const std::vector<std::string>& paths, const std::string& out);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_IMAGE_VERB_H_
