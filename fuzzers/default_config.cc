#include "fuzzers/default_config.h"

namespace twinwalk::fuzz {

#ifndef TWINWALK_DEFAULT_CONFIG
#define TWINWALK_DEFAULT_CONFIG "all"
#endif
const char* const kDefaultConfig = TWINWALK_DEFAULT_CONFIG;

}  // namespace twinwalk::fuzz
