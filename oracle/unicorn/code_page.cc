#include "oracle/unicorn/code_page.h"

#include <algorithm>
#include <bit>
#include <initializer_list>

namespace twinwalk::oracle::unicorn::code {
namespace {

constexpr unsigned kPieceBytes = 32;
constexpr std::uint8_t kInt3 = 0xcc;
constexpr std::uint8_t kAtRdi = 0x07;  // ModRM: RAX (or MM0), [RDI]

class Assembler {
 public:
  Assembler(std::span<std::uint8_t> page, Width width) : page_(page), width_(width) {
    std::fill(page.begin(), page.end(), kInt3);
  }
  void at(unsigned offset) { next_ = offset; }
  void put(std::initializer_list<std::uint8_t> bytes) {
    std::copy(bytes.begin(), bytes.end(), page_.begin() + next_);
    next_ += static_cast<unsigned>(bytes.size());
  }

  void invalidate() { put({0x0f, 0x01, 0x3e, 0x0f, 0x01, 0x3f}); }
  void access(AccessKind kind, unsigned size) {
    if (size == 8 && width_ == Width::k32) {
      eight_bytes(kind);
    } else {
      one_register(kind, size);
    }
    put({kInt3});
  }
  void iret() {
    if (width_ == Width::k64) put({0x48});
    put({0xcf});
  }

 private:
  // 66 for 16-bit, REX.W for 64-bit operands; the byte forms have their own opcode, one below.
  void one_register(AccessKind kind, unsigned size) {
    if (size == 2) put({0x66});
    if (size == 8) put({0x48});
    const unsigned form = size == 1 ? 0 : 1;
    if (kind == AccessKind::kRmw) put({0x0f});
    const unsigned opcode = kind == AccessKind::kRead    ? 0x8a
                            : kind == AccessKind::kWrite ? 0x88
                                                         : 0xc0;
    put({static_cast<std::uint8_t>(opcode + form), kAtRdi});
  }
  void eight_bytes(AccessKind kind) {
    if (kind == AccessKind::kRead) {
      put({0x0f, 0x6f, kAtRdi});      // MOVQ MM0, [EDI]
      put({0x0f, 0x7e, 0xc0});        // MOVD EAX, MM0
      put({0x0f, 0x73, 0xd0, 0x20});  // PSRLQ MM0, 32
      put({0x0f, 0x7e, 0xc2});        // MOVD EDX, MM0
    } else if (kind == AccessKind::kWrite) {
      put({0x0f, 0x6e, 0xc0});    // MOVD MM0, EAX
      put({0x0f, 0x6e, 0xca});    // MOVD MM1, EDX
      put({0x0f, 0x62, 0xc1});    // PUNPCKLDQ MM0, MM1
      put({0x0f, 0x7f, kAtRdi});  // MOVQ [EDI], MM0
    } else {
      put({0x0f, 0xc7, 0x0f});  // CMPXCHG8B [EDI]
    }
  }

  std::span<std::uint8_t> page_;
  Width width_;
  unsigned next_ = 0;
};

}  // namespace

unsigned access_piece(AccessKind kind, unsigned size) {
  const unsigned row = kind == AccessKind::kRead ? 0 : kind == AccessKind::kWrite ? 1 : 2;
  return (row * 4 + static_cast<unsigned>(std::countr_zero(size))) * kPieceBytes;
}

void assemble(std::span<std::uint8_t> page, Width width) {
  Assembler out(page, width);
  for (const AccessKind kind : {AccessKind::kRead, AccessKind::kWrite, AccessKind::kRmw}) {
    for (const unsigned size : {1u, 2u, 4u, 8u}) {
      out.at(access_piece(kind, size));
      out.invalidate();
      out.access(kind, size);
    }
  }
  out.at(kInvlpgPiece), out.invalidate();
  out.at(kMovCr3Piece), out.put({0x0f, 0x22, 0xde});
  out.at(kWrpkruPiece), out.put({0x0f, 0x01, 0xef});
  out.at(kIretPiece), out.iret();
  out.at(kNopPiece), out.put({0x90});
}

}  // namespace twinwalk::oracle::unicorn::code
