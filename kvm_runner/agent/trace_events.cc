#include "kvm_runner/agent/trace_events.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <sstream>

namespace twinwalk::agent {
namespace {

constexpr std::size_t kPageHeader = 16;         // a time, and how many bytes follow
constexpr std::uint64_t kLengthMask = 0xfffff;  // of the latter; above are flags

// The five low bits of an event's first word.
constexpr unsigned kLongData = 0, kPadding = 29, kTimeExtend = 30, kTimeStamp = 31;

std::uint64_t read_number(const std::uint8_t* at, std::size_t bytes) {
  std::uint64_t value = 0;
  std::memcpy(&value, at, std::min<std::size_t>(bytes, 8));
  return value;
}

// "offset:16;" -> 16
bool number_behind(const std::string& line, const char* word, unsigned& out) {
  const std::size_t at = line.find(word);
  if (at == std::string::npos) return false;
  out = static_cast<unsigned>(std::strtoul(line.c_str() + at + std::strlen(word), nullptr, 10));
  return true;
}

// "	field:unsigned short common_type;	offset:0;	size:2;	signed:0;" -> common_type
std::string field_name(const std::string& line) {
  const std::size_t end = line.find(';');
  if (end == std::string::npos) return {};
  std::size_t begin = end;
  while (begin > 0 &&
         (std::isalnum(static_cast<unsigned char>(line[begin - 1])) || line[begin - 1] == '_'))
    --begin;
  return line.substr(begin, end - begin);
}

}  // namespace

bool parse_event_format(const std::string& text, EventFormat& out) {
  out = {};
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.compare(0, 6, "name: ") == 0) out.name = line.substr(6);
    if (line.compare(0, 4, "ID: ") == 0) number_behind(line, "ID: ", out.id);
    if (line.find("field:") == std::string::npos) continue;
    EventField field{field_name(line), 0, 0};
    if (field.name.compare(0, 7, "common_") == 0) continue;
    if (!number_behind(line, "offset:", field.offset) || !number_behind(line, "size:", field.size))
      return false;
    out.fields.push_back(std::move(field));
  }
  return !out.name.empty() && out.id != 0;
}

std::uint64_t value_at(unsigned offset, unsigned size, std::span<const std::uint8_t> event) {
  if (std::size_t{offset} + size > event.size()) return 0;
  return read_number(event.data() + offset, size);
}

void each_event(std::span<const std::uint8_t> page,
                const std::function<void(std::span<const std::uint8_t>)>& f) {
  if (page.size() < kPageHeader) return;
  const std::uint64_t length = read_number(page.data() + 8, 8) & kLengthMask;
  page = page.subspan(kPageHeader);
  page = page.first(std::min<std::size_t>(page.size(), length));
  while (page.size() >= 8) {
    const auto head = static_cast<std::uint32_t>(read_number(page.data(), 4));
    const auto second = static_cast<std::uint32_t>(read_number(page.data() + 4, 4));
    const unsigned type = head & 31, delta = head >> 5;
    std::size_t bytes = 0;  // of all of it
    std::span<const std::uint8_t> data;
    switch (type) {
      case kPadding:
        if (delta == 0) return;  // nothing but padding follows
        bytes = std::size_t{4} + second;
        break;
      case kTimeExtend:
      case kTimeStamp:
        bytes = 8;
        break;
      case kLongData:
        bytes = std::size_t{4} + second;
        if (second > 4 && bytes <= page.size()) data = page.subspan(8, second - 4);
        break;
      default:
        bytes = 4 + std::size_t{type} * 4;
        if (bytes <= page.size()) data = page.subspan(4, bytes - 4);
        break;
    }
    if (bytes < 8 || bytes > page.size()) return;
    if (!data.empty()) f(data);
    page = page.subspan(bytes);
  }
}

}  // namespace twinwalk::agent
