#include "oracle/unicorn/bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "harness/trace/content.h"
#include "harness/trace/x86.h"
#include "oracle/unicorn/client.h"
#include "oracle/unicorn/code_page.h"
#include "oracle/unicorn/compare.h"
#include "oracle/unicorn/engine.h"

namespace twinwalk::oracle::unicorn {
namespace {

constexpr unsigned kPages = 512, kAccesses = 1024, kRounds = 60;
constexpr std::uint64_t kGva = 0x4000'0000, kFrames = 0x80'0000;
constexpr std::uint64_t kUpper = pte::kP | pte::kW | pte::kU | pte::kA;

// One row: accesses of one kind to 512 pages in turn, all of which succeed or all of which fault.
struct Row {
  const char* name;
  Mode mode;
  AccessKind kind;
  std::uint8_t cpl;
  bool faults;
};
constexpr Row kRows[] = {
    {"load", Mode::k4Level, AccessKind::kRead, 0, false},
    {"load, #PF", Mode::k4Level, AccessKind::kRead, 0, true},
    {"store, CPL 3", Mode::k4Level, AccessKind::kWrite, 3, false},
    {"store, CPL 3, #PF", Mode::k4Level, AccessKind::kWrite, 3, true},
    {"rmw", Mode::k4Level, AccessKind::kRmw, 0, false},
    {"fetch", Mode::k4Level, AccessKind::kFetch, 0, false},
    {"load, 5-level", Mode::k5Level, AccessKind::kRead, 0, false},
    {"load, PAE", Mode::kPae, AccessKind::kRead, 0, false},
    {"load, PAE, #PF", Mode::kPae, AccessKind::kRead, 0, true},
    {"rmw, PAE", Mode::kPae, AccessKind::kRmw, 0, false},
    {"load, 32-bit", Mode::k32Bit, AccessKind::kRead, 0, false},
    {"store, CPL 3, 32-bit", Mode::k32Bit, AccessKind::kWrite, 3, false},
    {"load, paging off", Mode::kNone, AccessKind::kRead, 0, false},
};

Machine machine_of(const Row& row) {
  Machine machine;
  machine.mode = row.mode;
  if (row.mode == Mode::k5Level) machine.features |= feature::kLa57;
  return machine;
}

std::uint64_t gva_of(const Row& row, unsigned page) {
  return (row.mode == Mode::kNone ? kFrames : kGva) + page * kPageBytes;
}

// The one table of each level on the way to kGva, the root's first.
std::uint64_t table_of(const TableLayout& layout, unsigned level) {
  return kInitialCr3 + (layout.levels - level) * kPageBytes;
}

std::uint64_t entry_of(const Row& row, unsigned level, unsigned page) {
  if (level == 1) return (kFrames + page * kPageBytes) | (row.faults ? 0 : kUpper | pte::kD);
  const TableLayout& layout = layout_of(row.mode);
  const bool pdpte = row.mode == Mode::kPae && level == layout.levels;
  return table_of(layout, level - 1) | (pdpte ? pte::kP : kUpper);
}

struct Word {
  std::uint64_t gpa, value;
  std::uint8_t bytes;
};

std::vector<Word> tables_of(const Row& row) {
  const TableLayout& layout = layout_of(row.mode);
  std::vector<Word> words;
  for (unsigned level = layout.levels; level >= 1; --level) {
    for (unsigned page = 0; page < (level == 1 ? kPages : 1); ++page) {
      words.push_back({layout.entry_gpa(table_of(layout, level), gva_of(row, page), level),
                       entry_of(row, level, page), static_cast<std::uint8_t>(layout.entry_bytes)});
    }
  }
  return words;
}

AccessQuery query_of(const Row& row, unsigned n) {
  AccessQuery query;
  query.gva = gva_of(row, n * 7 % kPages) + n % 64 * 8;
  query.kind = row.kind;
  query.value = store_stamp(n);
  query.registers = initial_registers(machine_of(row));
  query.registers.cpl = row.cpl;
  return query;
}

FreshOutcome outcome_of(const Row& row, const AccessQuery& query) {
  const auto page = static_cast<unsigned>((query.gva - gva_of(row, 0)) / kPageBytes);
  const unsigned levels = layout_of(row.mode).levels;
  FreshOutcome fresh;
  fresh.path[0].count = static_cast<std::uint8_t>(levels);
  for (unsigned i = 0; i < levels; ++i) fresh.path[0].entry[i] = entry_of(row, levels - i, page);
  if (row.faults) {
    fresh.kind = OutcomeKind::kPageFault;
    fresh.error_code =
        (row.cpl == 3 ? pfec::kU : 0) | (row.kind == AccessKind::kWrite ? pfec::kW : 0);
    fresh.cr2 = query.gva;
  } else {
    fresh.gpa[0] = kFrames + page * kPageBytes + query.gva % kPageBytes;
    fresh.value = row.kind == AccessKind::kWrite ? 0 : seed_word(fresh.gpa[0]);
  }
  return fresh;
}

template <class Body>
double nanoseconds_each(Body body) {
  const auto begin = std::chrono::steady_clock::now();
  body();
  const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - begin;
  return took.count() / kAccesses;
}

}  // namespace

// The least that has Unicorn execute an access on a fresh TLB and tells its outcome.
class BareRun {
 public:
  explicit BareRun(const Row& row)
      : engine_(prepared(image_, row),
                layout_of(row.mode).long_mode() ? code::Width::k64 : code::Width::k32) {
    for (unsigned n = 0; n < kAccesses; ++n) {
      const AccessQuery query = query_of(row, n);
      records_.push_back(record_of(query, unicorn::outcome_of(row, query)));
    }
    engine_.select(registers_of(query_of(row, 0).registers));
    engine_.prime(0, engine_.current_index_);
  }

  // Returns how many accesses ended as they should.
  unsigned run(const Row& row) {
    unsigned right = 0;
    for (const Record& record : records_) right += one(row, record);
    return right;
  }

 private:
  static GuestImage& prepared(GuestImage& image, const Row& row) {
    image.reset(std::uint64_t{64} << 20);
    for (const Word& word : tables_of(row)) image.write(word.gpa, word.bytes, word.value);
    for (unsigned page = 0; page < kPages; ++page) image.ensure(kFrames + page * kPageBytes);
    return image;
  }

  bool one(const Row& row, const Record& record) {
    const std::uint64_t code = engine_.place_.code_gva[0], until = code + code::kNeverReached;
    const auto& ids = engine_.ids_;
    std::uint64_t gva = record.target.address, value = record.target.value, rax = 0;
    unsigned entry = code::kOneInvlpg;
    if (row.cpl == 3 || row.kind == AccessKind::kFetch) {
      uc_context_restore(engine_.uc_, engine_.base_[Engine::kSupervisor]);
      uc_reg_write(engine_.uc_, ids.di, &gva);
      uc_emu_start(engine_.uc_, code + code::kInvlpgPiece + code::kOneInvlpg, until, 0, 0);
      entry = code::kNoInvlpg;
    }
    uc_context_restore(engine_.uc_, engine_.current_);
    if (row.kind == AccessKind::kFetch) {
      uc_emu_start(engine_.uc_, gva, until, 0, 0);
    } else {
      uc_reg_write(engine_.uc_, ids.di, &gva);
      uc_reg_write(engine_.uc_, ids.ax, &value);
      if (record.size == 8 && !engine_.wide()) {
        engine_.load_eight_bytes(
            {row.kind, 8, gva, kNowhere, value, seed_word(record.target.gpa[0])});
      }
      uc_emu_start(engine_.uc_, code + code::access_piece(row.kind, record.size) + entry, until, 0,
                   0);
    }
    if (engine_.interrupt_ == kPageFaultVector) return row.faults && engine_.fault_cr2_ == gva;
    uc_reg_read(engine_.uc_, ids.ax, &rax);
    return !row.faults && engine_.interrupt_ == kBreakpointVector;
  }

  GuestImage image_;
  Engine engine_;
  std::vector<Record> records_;
};

namespace {

// The same accesses through the client. Returns how many were compared and found right.
class HarnessRun {
 public:
  HarnessRun(UnicornClient& client, const Row& row) : client_(client) {
    client_.on_reset(machine_of(row));
    for (const Word& word : tables_of(row)) client_.on_memory(word.gpa, word.bytes, word.value);
    for (unsigned n = 0; n < kAccesses; ++n) {
      queries_.push_back(query_of(row, n));
      fresh_.push_back(unicorn::outcome_of(row, queries_.back()));
    }
    run();  // starts the process and seeds the pages
  }

  unsigned run() {
    for (unsigned n = 0; n < kAccesses; ++n) client_.on_access(n, queries_[n], fresh_[n]);
    unsigned wrong = 0;
    const UnicornClient::Result result =
        client_.finish([&](const UnicornDisagreement&) { ++wrong; });
    return static_cast<unsigned>(result.checks) - wrong;
  }

 private:
  UnicornClient& client_;
  std::vector<AccessQuery> queries_;
  std::vector<FreshOutcome> fresh_;
};

struct Figures {
  double bare = 0, harness = 0;  // ns an access, the best of all rounds
};

// Throws std::runtime_error if an access did not end as it should: then the figures would mean
// nothing.
Figures measure(UnicornClient& client, const Row& row) {
  BareRun bare(row);
  HarnessRun harness(client, row);
  bare.run(row);
  Figures best{1e12, 1e12};
  for (unsigned round = 0; round < kRounds; ++round) {  // in turn, so that noise hits both
    unsigned right = 0;
    best.bare = std::min(best.bare, nanoseconds_each([&] { right += bare.run(row); }));
    best.harness = std::min(best.harness, nanoseconds_each([&] { right += harness.run(); }));
    if (right != 2 * kAccesses)
      throw std::runtime_error(std::string("wrong outcomes in row \"") + row.name + "\"");
  }
  return best;
}

}  // namespace

int bench(const char* self) try {
  UnicornClient client(self);
  std::string why, rows;
  if (!client.available(why)) throw std::runtime_error(why);
  const UnicornVersion version = client.version();
  if (!version.translates)
    throw std::runtime_error(
        "this Unicorn does not follow the translation; there is nothing to compare");
  double bare = 0, harness = 0;
  for (const Row& row : kRows) {
    const Figures figures = measure(client, row);
    bare += figures.bare;
    harness += figures.harness;
    rows += fmt::format(
        "{}{{\"accesses\":\"{}\",\"bare_ns\":{:.0f},\"harness_ns\":{:.0f},\"ratio\":{:.3f}}}",
        rows.empty() ? "" : ",", row.name, figures.bare, figures.harness,
        figures.harness / figures.bare);
  }
  fmt::print("{{\"version\":\"{}.{}.{}\",\"rows\":[{}],\"ratio\":{:.3f}}}\n", version.major,
             version.minor, version.patch, rows, harness / bare);
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "twinwalk-unicorn --bench: {}\n", error.what());
  return 1;
}

}  // namespace twinwalk::oracle::unicorn
