#ifndef TWINWALK_ORACLE_UNICORN_VERSION_H_
#define TWINWALK_ORACLE_UNICORN_VERSION_H_

namespace twinwalk::oracle {

struct UnicornVersion {
  int major = 0, minor = 0, patch = 0;
  // Data follows the translation (2.1 and newer; found by trying). Else only fault or not, error
  // code, CR2 and A/D are checked.
  bool translates = false;
};

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_UNICORN_VERSION_H_
