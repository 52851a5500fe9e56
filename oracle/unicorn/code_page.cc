#include "oracle/unicorn/code_page.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <initializer_list>

namespace twinwalk::oracle::unicorn::code {
namespace {

constexpr unsigned kPieceBytes = 32;

// 66 for 16-bit, REX.W for 64-bit operands; the byte forms have their own opcode, one below.
unsigned emit_access(std::uint8_t* out, AccessKind kind, unsigned size) {
  unsigned n = 0;
  if (size == 2) out[n++] = 0x66;
  if (size == 8) out[n++] = 0x48;
  const std::uint8_t byte_form = size == 1 ? 0 : 1;
  switch (kind) {
    case AccessKind::kRead:
      out[n++] = static_cast<std::uint8_t>(0x8a + byte_form);
      break;
    case AccessKind::kWrite:
      out[n++] = static_cast<std::uint8_t>(0x88 + byte_form);
      break;
    case AccessKind::kRmw:
    case AccessKind::kFetch:
      out[n++] = 0x0f;
      out[n++] = static_cast<std::uint8_t>(0xc0 + byte_form);
      break;
  }
  out[n++] = 0x03;  // [RBX], RAX
  out[n++] = 0xcc;
  return n;
}

}  // namespace

unsigned access_piece(AccessKind kind, unsigned size) {
  const unsigned row = kind == AccessKind::kRead ? 0 : kind == AccessKind::kWrite ? 1 : 2;
  return (row * 4 + static_cast<unsigned>(std::countr_zero(size))) * kPieceBytes;
}

void assemble(std::span<std::uint8_t> page) {
  std::fill(page.begin(), page.end(), std::uint8_t{0xcc});
  const auto put = [&](unsigned at, std::initializer_list<std::uint8_t> bytes) {
    std::copy(bytes.begin(), bytes.end(), page.begin() + at);
  };
  const std::initializer_list<std::uint8_t> invlpg = {0x0f, 0x01, 0x3a, 0x0f, 0x01, 0x3b};
  for (const AccessKind kind : {AccessKind::kRead, AccessKind::kWrite, AccessKind::kRmw}) {
    for (const unsigned size : {1u, 2u, 4u, 8u}) {
      const unsigned at = access_piece(kind, size);
      put(at, invlpg);
      emit_access(page.data() + at + kNoInvlpg, kind, size);
    }
  }
  put(kInvlpgPiece, invlpg);
  put(kMovCr3Piece, {0x0f, 0x22, 0xda, 0xcc});
  put(kWrpkruPiece, {0x0f, 0x01, 0xef, 0xcc});
  put(kIretPiece, {0x48, 0xcf});
  put(kNopPiece, {0x90, 0xcc});
}

}  // namespace twinwalk::oracle::unicorn::code
