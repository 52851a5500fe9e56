#ifndef TWINWALK_ORACLE_UNICORN_CODE_PAGE_H_
#define TWINWALK_ORACLE_UNICORN_CODE_PAGE_H_

// The guest instructions that the harness executes: one page of 64-bit or 32-bit machine code.
// Every piece ends in INT3, whose interrupt hook stops the engine.

#include <cstdint>
#include <span>

#include "harness/trace/op.h"

namespace twinwalk::oracle::unicorn::code {

enum class Width : std::uint8_t { k32, k64 };

// Offsets within the code page. An access piece begins with INVLPG [RSI], INVLPG [RDI]; entering it
// later leaves one or both out. RDI holds the address that is accessed, RSI the second page's if
// there is one, RAX the data.
inline constexpr unsigned kBothInvlpg = 0, kOneInvlpg = 3, kNoInvlpg = 6;

// Loads and stores are MOV, RMW is XADD: it adds and gives the old data back. 32-bit code moves 8
// bytes by MOVQ through MM0, the data being in EDX:EAX; there RMW is CMPXCHG8B, which expects
// EDX:EAX, stores ECX:EBX and gives back in EDX:EAX what it found. Precondition: size 1, 2, 4 or 8;
// not a fetch, which starts at its own address.
unsigned access_piece(AccessKind kind, unsigned size);

inline constexpr unsigned kInvlpgPiece = 0x800;   // INVLPG [RSI]; INVLPG [RDI]; INT3
inline constexpr unsigned kMovCr3Piece = 0x820;   // MOV CR3, RSI; INT3
inline constexpr unsigned kWrpkruPiece = 0x840;   // WRPKRU; INT3
inline constexpr unsigned kIretPiece = 0x860;     // IRET to 64-bit or 32-bit code
inline constexpr unsigned kNopPiece = 0x880;      // NOP; INT3
inline constexpr unsigned kNeverReached = 0xfff;  // where no piece is: the engine's `until`

// Writes all pieces. `page` is 4096 bytes.
void assemble(std::span<std::uint8_t> page, Width width);

}  // namespace twinwalk::oracle::unicorn::code

#endif  // TWINWALK_ORACLE_UNICORN_CODE_PAGE_H_
