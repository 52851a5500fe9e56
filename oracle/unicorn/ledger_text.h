#ifndef TWINWALK_ORACLE_UNICORN_LEDGER_TEXT_H_
#define TWINWALK_ORACLE_UNICORN_LEDGER_TEXT_H_

#include <string_view>

namespace twinwalk::oracle::unicorn {

// corpus/known/ledger.json, compiled in by the build.
extern const std::string_view kLedgerText;

}  // namespace twinwalk::oracle::unicorn

#endif  // TWINWALK_ORACLE_UNICORN_LEDGER_TEXT_H_
