#ifndef TWINWALK_ORACLE_UNICORN_PROTOCOL_H_
#define TWINWALK_ORACLE_UNICORN_PROTOCOL_H_

// What the client and `twinwalk-unicorn` say to each other.
//
// They share one memory area (a memfd): a control page, the journal, which the client writes, and
// the results, which the server writes. Whose turn it is, the doorbells on the control page say
// (doorbell.h). Both sides come from one build, which the magic makes sure of.
//
//   +---------+-------------------------+-------------------------+
//   | Control | journal: Record * n     | results: Result * m     |
//   +---------+-------------------------+-------------------------+
//   0         kJournalAt                kResultsAt                kAreaBytes

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "oracle/unicorn/doorbell.h"

namespace twinwalk::oracle::unicorn {

inline constexpr std::uint32_t kMagic = 0x54570003;  // changes with any layout below
inline constexpr int kAreaFd = 3, kSocketFd = 4;     // as the server finds them

enum class RecordKind : std::uint8_t { kReset, kMemory, kRegisters, kPdptes, kAccess };

// Registers in the order of Registers; only what decides a translation.
struct RegisterRecord {
  std::uint64_t cr0, cr3, cr4, efer;
  std::uint32_t pkru;
  std::uint8_t cpl, ac;
  std::uint8_t pad[2];
  friend bool operator==(const RegisterRecord&, const RegisterRecord&) = default;
};

struct TargetRecord {
  std::uint64_t address;  // kReset: memory in bytes; kMemory: gpa; kAccess: gva
  std::uint64_t value;    // kMemory: new content; kAccess: what a store writes or RMW adds
  std::uint64_t gpa[2];  // kAccess: where spec says that the bytes are, kNowhere if it says nothing
};

// PAE paging's four PDPTE registers, for the accesses that follow in that mode.
struct PdpteRecord {
  std::uint64_t pdpte[4];
};

// One line of the journal. Which members mean something depends on `kind`.
struct Record {
  RecordKind kind;
  std::uint8_t access;        // kAccess: AccessKind
  std::uint8_t size;          // kMemory, kAccess: 1..8 bytes
  std::uint8_t must_succeed;  // kAccess: spec says that it completes in memory
  std::uint8_t entries[2];    // kAccess: how many entries spec's walk of each page reads
  std::uint8_t must_fault;    // kAccess: spec says that it faults
  std::uint8_t pad;
  union {
    TargetRecord target;
    RegisterRecord registers;  // kRegisters: for the accesses that follow
    PdpteRecord pdptes;        // kPdptes
  };
};

inline constexpr std::uint64_t kNowhere = ~std::uint64_t{0};

// Why an access was not executed. Nothing was changed by it.
enum class Skipped : std::uint8_t {
  kNo,
  kRegisters,     // the engine does not keep these register values
  kOutside,       // a table or the target lies outside the image
  kOwnPage,       // collides with the pages that the harness itself needs
  kOwnPath,       // an old Unicorn would store over the entries that are compared
  kLatched,       // the access reads memory where the latched PDPTEs had to be put for it
  kFetchContent,  // the fetched word is not the seed's: executing it would prove nothing
  kLost,          // an earlier access left the image in doubt
  kCount,
};

enum class Event : std::uint8_t {
  kCompleted,    // the instruction after the access was reached
  kException,    // `vector`
  kUnmapped,     // the translation led to `gpa`, where there is no memory
  kEngineError,  // Unicorn returned an error of its own (`vector` is its uc_err)
};

inline constexpr unsigned kMostLevels = 5;

// What one access did: one cache line. An access that crosses a page has a second one, of which
// only `entries` and `entry` mean something.
struct alignas(64) Result {
  Skipped skipped;
  Event event;
  std::uint8_t vector;
  std::uint8_t entries;  // read by a walk of the image, root first
  std::uint32_t error_code;
  union {
    std::uint64_t value;    // kCompleted: what loads and RMW have in the register; what a fetch ran
    std::uint64_t address;  // else: a #PF's CR2; the gpa of Event::kUnmapped
  };
  std::uint64_t stored;              // stores and RMW: the `size` bytes at Record::gpa afterwards
  std::uint64_t entry[kMostLevels];  // as they are after the access, 4-byte ones zero-extended
};

static_assert(sizeof(Record) == 48 && sizeof(Result) == 64);
static_assert(std::is_trivially_copyable_v<Record> && std::is_trivially_copyable_v<Result>);

struct Request {
  std::uint32_t magic = kMagic;
  std::uint32_t records = 0;  // 0: only say hello
};

enum class State : std::uint32_t { kReady, kRefused };

struct Reply {
  std::uint32_t magic = kMagic;
  State state = State::kReady;
  std::uint32_t results = 0;
  std::int32_t major = 0, minor = 0, patch = 0;
  std::uint32_t translates = 0;
  char why[160] = {};  // kRefused: one line, terminated
};

struct Control {
  alignas(64) Doorbell requested;
  Request request;
  alignas(64) Doorbell replied;
  Reply reply;
};

inline constexpr std::size_t kMaxRecords = 1u << 15;
inline constexpr std::size_t kMaxResults = 1u << 14;
inline constexpr std::size_t kJournalAt = 4096;
inline constexpr std::size_t kResultsAt = kJournalAt + kMaxRecords * sizeof(Record);
inline constexpr std::size_t kAreaBytes = kResultsAt + kMaxResults * sizeof(Result);
static_assert(sizeof(Control) <= kJournalAt && kResultsAt % alignof(Result) == 0);

}  // namespace twinwalk::oracle::unicorn

#endif  // TWINWALK_ORACLE_UNICORN_PROTOCOL_H_
