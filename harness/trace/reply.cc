#include "harness/trace/reply.h"

#include <cstddef>

namespace twinwalk {
namespace {

constexpr std::uint8_t kVersion = 1;

// Which fields of an outcome are not as in Outcome{}.
enum Present : std::uint64_t {
  kReason = 1 << 0,
  kComplaint = 1 << 1,
  kWrite = 1 << 2,
  kErrorCode = 1 << 3,
  kCr2 = 1 << 4,
  kQualification = 1 << 5,
  kGpa0 = 1 << 6,
  kGpa1 = 1 << 7,
  kValue = 1 << 8,
  kPath0 = 1 << 9,
  kPath1 = 1 << 10,
  kExtra = 1 << 11,
};

class ReplyWriter {
 public:
  explicit ReplyWriter(std::vector<std::uint8_t>& out) : out_(out) {}
  void byte(unsigned value) { out_.push_back(static_cast<std::uint8_t>(value)); }
  // Seven bits a byte, low ones first; the last byte has no bit 7.
  void number(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) byte(static_cast<unsigned>(value & 0x7f) | 0x80);
    byte(static_cast<unsigned>(value));
  }
  // All eight bytes: most entries and stamps fill them.
  void word(std::uint64_t value) {
    for (unsigned i = 0; i < 8; ++i) byte(static_cast<unsigned>(value >> 8 * i & 0xff));
  }
  void path(const Path& path) {
    byte(path.count);
    for (unsigned i = 0; i < path.count; ++i) number(path.entry[i]);
  }

 private:
  std::vector<std::uint8_t>& out_;
};

// Reads what ReplyWriter wrote; after the end, or a number that is none, everything is 0 and ok()
// false.
class ReplyReader {
 public:
  explicit ReplyReader(std::span<const std::uint8_t> in) : in_(in) {}
  bool ok() const { return ok_; }
  bool at_end() const { return at_ == in_.size(); }
  unsigned byte() {
    if (at_ < in_.size()) return in_[at_++];
    ok_ = false;
    return 0;
  }
  std::uint64_t number() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const unsigned b = byte();
      value |= std::uint64_t{b & 0x7f} << shift;
      if ((b & 0x80) == 0) return value;
    }
    ok_ = false;
    return 0;
  }
  std::uint64_t word() {
    std::uint64_t value = 0;
    for (unsigned i = 0; i < 8; ++i) value |= std::uint64_t{byte()} << 8 * i;
    return value;
  }
  void path(Path& path) {
    path.count = static_cast<std::uint8_t>(byte());
    constexpr unsigned kMost = sizeof(path.entry) / sizeof(path.entry[0]);
    if (path.count > kMost) {
      ok_ = false;
      path.count = 0;
    }
    for (unsigned i = 0; i < path.count; ++i) path.entry[i] = number();
  }
  // A count of things of which each takes a byte at least.
  std::size_t count() {
    const std::uint64_t n = number();
    if (n > in_.size() - at_) ok_ = false;
    return ok_ ? static_cast<std::size_t>(n) : 0;
  }
  template <class Enum>
  Enum name(Enum last) {
    const unsigned b = byte();
    if (b > static_cast<unsigned>(last)) ok_ = false;
    return ok_ ? static_cast<Enum>(b) : Enum{};
  }

 private:
  std::span<const std::uint8_t> in_;
  std::size_t at_ = 0;
  bool ok_ = true;
};

std::uint64_t present(const Outcome& o) {
  std::uint64_t mask = 0;
  const auto note = [&mask](bool there, std::uint64_t bit) { mask |= there ? bit : 0; };
  note(o.reason != SkipReason::kNone, kReason);
  note(o.complaint != Complaint::kNone, kComplaint);
  note(o.write, kWrite);
  note(o.error_code != 0, kErrorCode);
  note(o.cr2 != 0, kCr2);
  note(o.qualification != 0, kQualification);
  note(o.gpa[0] != kUnknownGpa, kGpa0);
  note(o.gpa[1] != kUnknownGpa, kGpa1);
  note(o.value != 0, kValue);
  note(o.path[0].count != 0, kPath0);
  note(o.path[1].count != 0, kPath1);
  note(o.extra_begin != 0 || o.extra_count != 0, kExtra);
  return mask;
}

void put(ReplyWriter& w, const Outcome& o) {
  const std::uint64_t mask = present(o);
  w.byte(static_cast<unsigned>(o.kind));
  w.number(mask);
  if (mask & kReason) w.byte(static_cast<unsigned>(o.reason));
  if (mask & kComplaint) w.byte(static_cast<unsigned>(o.complaint));
  if (mask & kErrorCode) w.number(o.error_code);
  if (mask & kCr2) w.number(o.cr2);
  if (mask & kQualification) w.number(o.qualification);
  if (mask & kGpa0) w.number(o.gpa[0]);
  if (mask & kGpa1) w.number(o.gpa[1]);
  if (mask & kValue) w.word(o.value);
  if (mask & kPath0) w.path(o.path[0]);
  if (mask & kPath1) w.path(o.path[1]);
  if (mask & kExtra) {
    w.number(o.extra_begin);
    w.number(o.extra_count);
  }
}

void get(ReplyReader& r, Outcome& o) {
  o = {};
  o.kind = r.name(OutcomeKind::kMemoryFault);
  const std::uint64_t mask = r.number();
  if (mask & kReason) o.reason = r.name(SkipReason::kHostLacksFeature);
  if (mask & kComplaint) o.complaint = r.name(Complaint::kTrap);
  o.write = (mask & kWrite) != 0;
  if (mask & kErrorCode) o.error_code = static_cast<std::uint32_t>(r.number());
  if (mask & kCr2) o.cr2 = r.number();
  if (mask & kQualification) o.qualification = r.number();
  if (mask & kGpa0) o.gpa[0] = r.number();
  if (mask & kGpa1) o.gpa[1] = r.number();
  if (mask & kValue) o.value = r.word();
  if (mask & kPath0) r.path(o.path[0]);
  if (mask & kPath1) r.path(o.path[1]);
  if (mask & kExtra) {
    o.extra_begin = static_cast<std::uint32_t>(r.number());
    o.extra_count = static_cast<std::uint32_t>(r.number());
  }
}

template <class Number>
void put_numbers(ReplyWriter& w, const std::vector<Number>& numbers) {
  w.number(numbers.size());
  for (const Number n : numbers) w.number(n);
}
template <class Number>
void get_numbers(ReplyReader& r, std::vector<Number>& numbers) {
  numbers.resize(r.count());
  for (Number& n : numbers) n = static_cast<Number>(r.number());
}

bool extras_are_there(const OutcomeStream& s) {
  for (const Outcome& o : s.steps) {
    if (std::uint64_t{o.extra_begin} + o.extra_count > s.extra.size()) return false;
  }
  return true;
}

}  // namespace

void encode_reply(const Reply& reply, std::vector<std::uint8_t>& out) {
  ReplyWriter w(out);
  const OutcomeStream& s = reply.outcomes;
  w.byte(kVersion);
  w.number(s.steps.size());
  for (const Outcome& o : s.steps) put(w, o);
  put_numbers(w, s.extra);
  put_numbers(w, s.ended);
  put_numbers(w, s.begun);
  w.number(s.complaint_text.size());
  for (const char c : s.complaint_text) w.byte(static_cast<unsigned char>(c));
  w.number(reply.image.size());
  std::uint64_t last = 0;
  for (const ImageWord& i : reply.image) {
    w.number(i.gpa - last);
    w.word(i.word);
    last = i.gpa;
  }
}

bool decode_reply(std::span<const std::uint8_t> bytes, Reply& reply) {
  ReplyReader r(bytes);
  reply.clear();
  if (r.byte() != kVersion) return false;
  OutcomeStream& s = reply.outcomes;
  s.steps.resize(r.count());
  for (Outcome& o : s.steps) get(r, o);
  get_numbers(r, s.extra);
  get_numbers(r, s.ended);
  get_numbers(r, s.begun);
  s.complaint_text.resize(r.count());
  for (char& c : s.complaint_text) c = static_cast<char>(r.byte());
  reply.image.resize(r.count());
  std::uint64_t last = 0;
  for (ImageWord& i : reply.image) {
    i.gpa = last += r.number();
    i.word = r.word();
  }
  return r.ok() && r.at_end() && extras_are_there(s);
}

void trace_of(const Program& program, Trace& out) {
  out.clear();
  out.machine = program.machine;
  out.ops.reserve(program.steps.size());
  for (const Step& step : program.steps) out.ops.push_back(step.what);
  // What came before it may have been lowered to nothing; no block begins a trace.
  if (!out.ops.empty()) out.ops.front().point = Point::kNone;
}

}  // namespace twinwalk
