#ifndef TWINWALK_HARNESS_TRACE_SERIAL_LOG_H_
#define TWINWALK_HARNESS_TRACE_SERIAL_LOG_H_

// What goes over a serial line between here and a subject that runs elsewhere: lines that are known
// among a console's other output, and known to be whole.
//
//   TW1 do 3 <command, as text>                *crc
//   TW1 host 3 <what it runs on, as text>      *crc     at the start; the answer to a command
//   TW1 trace 17 <base64 of a trace's file form> *crc
//   TW1 ran 17 <base64 of a reply>             *crc
//   TW1 seen 17 <base64 of counters>           *crc     before it, where counters were asked for
//   TW1 note 17 <text>                         *crc     for people
//   TW1 bye 0                                  *crc     nothing follows
//
// The CRC-32 (ISO-HDLC, eight hex digits) is of what stands between "TW1 " and " *".

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace twinwalk {

enum class LogWord : std::uint8_t { kDo, kHost, kTrace, kRan, kSeen, kNote, kBye };
std::string_view name_of(LogWord word);

struct LogLine {
  LogWord word = LogWord::kNote;
  std::uint64_t number = 0;
  std::string text;  // trace, ran, seen: base64; else as it is
};

// With its newline. What a line cannot hold (control characters) becomes a space.
std::string to_log_text(LogWord word, std::uint64_t number, std::string_view text);
std::string to_log_line(LogWord word, std::uint64_t number, std::span<const std::uint8_t> payload);

enum class LogRead : std::uint8_t {
  kOther,    // none of these lines: what a console says besides
  kDamaged,  // begins as one, but something is missing or changed
  kWhole,
};
// `text` is one line; what precedes "TW1 " in it is not looked at.
LogRead read_log_line(std::string_view text, LogLine& line);

// RFC 4648, with padding.
std::string to_base64(std::span<const std::uint8_t> bytes);
// Replaces `bytes`. False if that is no base64.
bool from_base64(std::string_view text, std::vector<std::uint8_t>& bytes);

std::uint32_t crc32(std::string_view text);

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_TRACE_SERIAL_LOG_H_
