#ifndef TWINWALK_ORACLE_UNICORN_EXECUTOR_H_
#define TWINWALK_ORACLE_UNICORN_EXECUTOR_H_

// Executes a journal: keeps the guest's image as the journal says, has the engine do
// each access on it, notes what the access did, and undoes that. What remains of an
// access in memory is the journal's to say, so the image always equals spec's.

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "oracle/unicorn/engine.h"
#include "oracle/unicorn/guest_image.h"
#include "oracle/unicorn/protocol.h"
#include "oracle/unicorn/table_layout.h"

namespace twinwalk::oracle::unicorn {

class Executor {
 public:
  // Opens an engine, so that a library which cannot be used is noticed at once. Throws as Engine
  // does.
  Executor();

  // Executes the records in order; one result a page of each access. State is kept from one batch
  // to the next. Returns the number of results. Precondition: `results` has room for two an access
  // record.
  std::size_t execute(std::span<const Record> records, Result* results);

  bool translates() const { return translates_; }

 private:
  enum EngineIndex : unsigned { kLegacy, kLong, kEngines };
  struct Seat {
    std::unique_ptr<Engine> engine;  // opened when the first access needs it
    std::uint64_t accesses = 0;      // since it was opened
    bool large_cached = false;       // a large page may be in the TLB since the last full flush
  };
  // What an access may change: paging-structure entries and the words of its data.
  struct Watch {
    struct Word {
      std::uint64_t gpa, before;
    };
    std::array<Word, 36> words;
    unsigned count = 0;
  };
  // Where the image's tables lead for one page. For keeping books only: nothing is judged by it.
  struct Trail {
    // The first `count` mean something; left unset otherwise.
    std::array<std::uint64_t, kMostLevels> entry_gpa;
    unsigned count = 0;
    std::uint64_t target = kNowhere;  // gpa of the byte, if every entry is present
    bool large = false;
  };
  using Trails = std::array<Trail, 2>;

  void reset(const Record& record);
  // Those of the registers' mode.
  Seat& seat() { return engines_[layout_.long_mode() ? kLong : kLegacy]; }
  Engine& engine() { return *seat().engine; }
  void open_engine();  // unless it is open and not worn out
  // Data goes where the registers' mode has it go: also in an old Unicorn with paging off.
  bool data_follows() const { return translates_ || layout_.levels == 0; }
  unsigned access(const Record& record, Result* results);  // how many results: one a page
  Skipped obstacle(const Record& record, const Access& access, const Trails& trails);
  void watch(const Record& record, const Access& access, const Trails& trails);
  void run(const Record& record, Access& access, const Trails& trails, Result* results);
  bool own_pages_hit(const Access& access, const Trails& trails);
  bool latched_hit(const Record& record, const Trails& trails) const;
  bool old_engine_hits_trail(const Access& access, const Trails& trails);
  bool can_execute_fetch(const Record& record, const Trail& trail);
  std::uint64_t would_execute(const Record& record, const Trail& trail) const;
  bool on_trail(const Trail& trail, std::uint64_t gpa) const;
  void make_harmless(const Record& record, const Trail& trail);
  bool select();
  Freshness next_freshness();
  void judge_doubt(const Record& record, const Ran& ran, const Result& result,
                   std::uint64_t old_data);

  void take_registers(const RegisterRecord& registers);
  Trail trail_of(std::uint64_t gva);
  std::uint64_t entry_at(std::uint64_t gpa);
  void put_latched(std::uint64_t gva);
  void watch_word(std::uint64_t gpa);
  void watch_trail(const Trail& trail);
  void watch_data(std::uint64_t gpa, unsigned size);
  void undo();
  std::uint64_t data_at(const Record& record);

  GuestImage image_;
  std::array<Seat, kEngines> engines_;
  RegisterRecord registers_{};
  TableLayout layout_;  // of registers_' mode
  PdpteRecord pdptes_{};
  bool translates_ = false;
  bool selected_ = false;  // the engine of layout_ has registers_
  Watch watch_;
  unsigned latched_ = 0;  // the first words of watch_: PDPTEs put into memory for the access
  bool lost_ = false;     // the image is in doubt until the next reset
};

}  // namespace twinwalk::oracle::unicorn

#endif  // TWINWALK_ORACLE_UNICORN_EXECUTOR_H_
