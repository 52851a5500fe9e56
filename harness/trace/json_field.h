#ifndef TWINWALK_HARNESS_TRACE_JSON_FIELD_H_
#define TWINWALK_HARNESS_TRACE_JSON_FIELD_H_

// Fields of a JSON object that somebody else wrote: result lines, ledgers. What is of the wrong
// kind is std::runtime_error with a sentence that names the field.

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace twinwalk::json_field {

using Json = nlohmann::json;

// The field, null where it is absent or null.
inline const Json* find(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

[[noreturn]] inline void refuse(const char* key, const char* why) {
  throw std::runtime_error("`" + std::string(key) + "` " + why);
}

// A text that has to be there.
inline std::string text(const Json& object, const char* key) {
  const Json* found = find(object, key);
  if (!found || !found->is_string()) refuse(key, "is not a text");
  return found->get<std::string>();
}

// The text, JSON as it stands where it is none, "" where it is absent.
inline std::string text_or_empty(const Json& object, const char* key) {
  const Json* found = find(object, key);
  if (!found) return "";
  return found->is_string() ? found->get<std::string>() : found->dump();
}

template <typename Number>
Number number_or_zero(const Json& object, const char* key) {
  const Json* found = find(object, key);
  if (!found) return 0;
  if (!found->is_number()) refuse(key, "is not a number");
  if constexpr (std::is_unsigned_v<Number>) {
    const bool negative = found->is_number_integer() && !found->is_number_unsigned() &&
                          found->get<std::int64_t>() < 0;
    if (negative) refuse(key, "is negative");
    if (found->is_number_float() && !(found->get<double>() >= 0 && found->get<double>() < 1e18))
      refuse(key, "is out of range");
  }
  return found->get<Number>();
}

inline bool flag_or_false(const Json& object, const char* key) {
  const Json* found = find(object, key);
  if (!found) return false;
  if (!found->is_boolean()) refuse(key, "is not true or false");
  return found->get<bool>();
}

}  // namespace twinwalk::json_field

#endif  // TWINWALK_HARNESS_TRACE_JSON_FIELD_H_
