#ifndef TWINWALK_HARNESS_TRACE_FIELD_CODEC_H_
#define TWINWALK_HARNESS_TRACE_FIELD_CODEC_H_

// Bytes of single fields in the binary form; the codec's, not public. The layout is in the README.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "harness/trace/schema.h"

namespace twinwalk::binary {

using Byte = std::uint8_t;
using Bytes = std::vector<Byte>;

// Reads on past the end: what is missing is 0.
class Reader {
 public:
  explicit Reader(std::span<const Byte> bytes) : next_(bytes.data()), end_(next_ + bytes.size()) {}
  bool empty() const { return next_ == end_; }
  std::size_t left() const { return static_cast<std::size_t>(end_ - next_); }
  bool ran_out() const { return ran_out_; }
  Byte byte() {
    if (next_ == end_) {
      ran_out_ = true;
      return 0;
    }
    return *next_++;
  }
  std::uint64_t number(unsigned bytes) {
    std::uint64_t value = 0;
    if constexpr (std::endian::native == std::endian::little) {
      if (left() >= bytes) {
        std::memcpy(&value, next_, bytes);
        next_ += bytes;
        return value;
      }
    }
    for (unsigned i = 0; i < bytes; ++i) value |= std::uint64_t{byte()} << (8 * i);
    return value;
  }
  std::string_view text(std::size_t size) {
    if (size > left()) size = left(), ran_out_ = true;
    const std::string_view out(reinterpret_cast<const char*>(next_), size);
    next_ += size;
    return out;
  }

 private:
  const Byte* next_;
  const Byte* end_;
  bool ran_out_ = false;
};

// Little endian.
void put_number(Bytes& out, std::uint64_t value, unsigned bytes);

// A field (resolved) of any kind; `usual` is the value that a register has at the start, 0 for what
// is none. What get_field returns is legal. Precondition of put_field: the value is legal.
std::uint64_t get_field(Reader& in, const FieldInfo& field, std::uint64_t usual);
void put_field(Bytes& out, const FieldInfo& field, std::uint64_t usual, std::uint64_t value);

}  // namespace twinwalk::binary

#endif  // TWINWALK_HARNESS_TRACE_FIELD_CODEC_H_
