#ifndef TWINWALK_FUZZERS_DEFAULT_CONFIG_H_
#define TWINWALK_FUZZERS_DEFAULT_CONFIG_H_

namespace twinwalk::fuzz {

// The configuration of this program where the environment names none (harness/fuzzing/config.h): a
// fuzzing service runs one program for each, and says nothing.
extern const char* const kDefaultConfig;

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_FUZZERS_DEFAULT_CONFIG_H_
