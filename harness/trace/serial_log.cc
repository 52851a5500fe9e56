#include "harness/trace/serial_log.h"

#include <array>
#include <cstddef>
#include <iterator>

namespace twinwalk {
namespace {

constexpr std::string_view kMark = "TW1 ", kSum = " *";
constexpr std::string_view kWords[] = {"do", "host", "trace", "ran", "seen", "note", "bye"};
constexpr std::string_view kDigits =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::uint8_t kNoDigit = 0xff;

constexpr std::array<std::uint8_t, 256> value_by_digit() {
  std::array<std::uint8_t, 256> values{};
  for (std::uint8_t& value : values) value = kNoDigit;
  for (std::size_t i = 0; i < kDigits.size(); ++i)
    values[static_cast<unsigned char>(kDigits[i])] = static_cast<std::uint8_t>(i);
  return values;
}
constexpr std::array<std::uint8_t, 256> kDigitValues = value_by_digit();

// The CRC of each byte: lines are checked and made where instructions are dear, in emulators.
constexpr std::array<std::uint32_t, 256> crc_by_byte() {
  std::array<std::uint32_t, 256> sums{};
  for (std::uint32_t byte = 0; byte < sums.size(); ++byte) {
    sums[byte] = byte;
    for (unsigned i = 0; i < 8; ++i)
      sums[byte] = sums[byte] >> 1 ^ ((sums[byte] & 1) != 0 ? 0xedb8'8320u : 0);
  }
  return sums;
}
constexpr std::array<std::uint32_t, 256> kCrcOfByte = crc_by_byte();

void append_number(std::string& out, std::uint64_t number) {
  char digits[20];
  unsigned n = 0;
  do digits[n++] = static_cast<char>('0' + number % 10);
  while ((number /= 10) != 0);
  while (n != 0) out.push_back(digits[--n]);
}

std::string with_sum(std::string_view body) {
  constexpr std::string_view kHex = "0123456789abcdef";
  const std::uint32_t sum = crc32(body);
  std::string line(kMark);
  line += body;
  line += kSum;
  for (unsigned shift = 32; shift != 0; shift -= 4) line.push_back(kHex[sum >> (shift - 4) & 15]);
  line.push_back('\n');
  return line;
}

std::string head_of(LogWord word, std::uint64_t number) {
  std::string body(name_of(word));
  body.push_back(' ');
  append_number(body, number);
  return body;
}

// Takes up to the next space off the front.
std::string_view take_word(std::string_view& text) {
  const std::size_t end = text.find(' ');
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(end == text.npos ? text.size() : end + 1);
  return word;
}

bool read_number(std::string_view text, unsigned base, std::uint64_t& number) {
  number = 0;
  if (text.empty() || text.size() > 19) return false;
  for (const char c : text) {
    const unsigned digit = c >= '0' && c <= '9'   ? static_cast<unsigned>(c - '0')
                           : c >= 'a' && c <= 'f' ? static_cast<unsigned>(c - 'a') + 10
                                                  : base;
    if (digit >= base) return false;
    number = number * base + digit;
  }
  return true;
}

}  // namespace

std::string_view name_of(LogWord word) { return kWords[static_cast<unsigned>(word)]; }

std::uint32_t crc32(std::string_view text) {
  std::uint32_t sum = ~std::uint32_t{0};
  for (const char c : text)
    sum = sum >> 8 ^ kCrcOfByte[(sum ^ static_cast<unsigned char>(c)) & 255];
  return ~sum;
}

std::string to_base64(std::span<const std::uint8_t> bytes) {
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t left = bytes.size() - i;
    const std::uint32_t group = std::uint32_t{bytes[i]} << 16 |
                                (left > 1 ? std::uint32_t{bytes[i + 1]} << 8 : 0) |
                                (left > 2 ? bytes[i + 2] : 0u);
    out.push_back(kDigits[group >> 18]);
    out.push_back(kDigits[group >> 12 & 63]);
    out.push_back(left > 1 ? kDigits[group >> 6 & 63] : '=');
    out.push_back(left > 2 ? kDigits[group & 63] : '=');
  }
  return out;
}

bool from_base64(std::string_view text, std::vector<std::uint8_t>& bytes) {
  bytes.clear();
  if (text.size() % 4 != 0) return false;
  bytes.reserve(text.size() / 4 * 3);
  for (std::size_t i = 0; i < text.size(); i += 4) {
    const std::string_view group = text.substr(i, 4);
    const bool last = i + 4 == text.size();
    const unsigned pads = last && group[3] == '=' ? (group[2] == '=' ? 2 : 1) : 0;
    std::uint32_t value = 0;
    for (unsigned n = 0; n < 4; ++n) {
      const bool pad = n >= 4 - pads;
      const std::uint8_t digit = pad ? 0 : kDigitValues[static_cast<unsigned char>(group[n])];
      if (digit == kNoDigit) return false;
      value = value << 6 | digit;
    }
    bytes.push_back(static_cast<std::uint8_t>(value >> 16));
    if (pads < 2) bytes.push_back(static_cast<std::uint8_t>(value >> 8 & 0xff));
    if (pads < 1) bytes.push_back(static_cast<std::uint8_t>(value & 0xff));
  }
  return true;
}

std::string to_log_text(LogWord word, std::uint64_t number, std::string_view text) {
  std::string body = head_of(word, number);
  if (!text.empty()) body.push_back(' ');
  for (const char c : text) body.push_back(c >= ' ' && c <= '~' ? c : ' ');
  return with_sum(body);
}

std::string to_log_line(LogWord word, std::uint64_t number, std::span<const std::uint8_t> payload) {
  return with_sum(head_of(word, number) + " " + to_base64(payload));
}

LogRead read_log_line(std::string_view text, LogLine& line) {
  const std::size_t begin = text.find(kMark);
  if (begin == text.npos) return LogRead::kOther;
  text.remove_prefix(begin + kMark.size());
  while (!text.empty() && (text.back() == '\r' || text.back() == '\n')) text.remove_suffix(1);
  const std::size_t sum_at = text.rfind(kSum);
  if (sum_at == text.npos) return LogRead::kDamaged;
  std::uint64_t sum = 0;
  const std::string_view digits = text.substr(sum_at + kSum.size());
  std::string_view body = text.substr(0, sum_at);
  if (digits.size() != 8 || !read_number(digits, 16, sum) || sum != crc32(body))
    return LogRead::kDamaged;
  const std::string_view word = take_word(body);
  if (!read_number(take_word(body), 10, line.number)) return LogRead::kDamaged;
  for (unsigned i = 0; i < std::size(kWords); ++i) {
    if (kWords[i] != word) continue;
    line.word = static_cast<LogWord>(i);
    line.text = body;
    return LogRead::kWhole;
  }
  return LogRead::kDamaged;  // a word of another version
}

}  // namespace twinwalk
