#include "harness/finding.h"

#include <cstdio>

namespace twinwalk {

Finding finding_of(const CheckResult& result, Profile profile) {
  return {result.divergence, result.verb, result.field, profile};
}

// FNV-1a over the names, so that renumbering an enumeration changes nothing.
std::uint64_t hash_of(const Finding& finding) {
  std::uint64_t hash = 0xcbf2'9ce4'8422'2325u;
  const auto add = [&hash](std::string_view text) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100'0000'01b3u;
    hash = (hash ^ 0xffu) * 0x100'0000'01b3u;  // ends a field: no name holds this byte
  };
  add(name_of(finding.divergence));
  add(finding.verb == Verb::kCount ? std::string_view("-") : name_of(finding.verb));
  add(finding.field);
  add(name_of(finding.profile));
  return hash;
}

std::string name_of(const Finding& finding) {
  char digits[16];
  std::snprintf(digits, sizeof digits, "-%08x", static_cast<unsigned>(hash_of(finding) >> 32));
  return std::string(name_of(finding.divergence)) + digits;
}

}  // namespace twinwalk
