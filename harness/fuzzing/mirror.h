#ifndef TWINWALK_HARNESS_FUZZING_MIRROR_H_
#define TWINWALK_HARNESS_FUZZING_MIRROR_H_

// Copies of source folders that are built again and again.

#include <string>

namespace twinwalk::fuzz {

// Makes the folder `to` a copy of `from`. Only files that differ are written, so that what has not
// changed is not built again. Returns "" or why not.
std::string mirror(const std::string& from, const std::string& to);
// The same of one file.
std::string mirror_file(const std::string& from, const std::string& to);

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_MIRROR_H_
