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

  bool translates() const { return engine_->translates(); }

 private:
  // What an access may change: paging-structure entries and the words of its data.
  struct Watch {
    struct Word {
      std::uint64_t gpa, before;
    };
    std::array<Word, 24> words;
    unsigned count = 0;
  };
  // Where the image's tables lead for one page. For keeping books only: nothing is judged by it.
  struct Trail {
    std::array<std::uint64_t, kLevels> entry_gpa{};
    unsigned count = 0;
    std::uint64_t target = kNowhere;  // gpa of the byte, if every entry is present
    bool large = false;
  };

  void reset(const Record& record);
  void reopen();
  unsigned access(const Record& record, Result* results);  // how many results: one a page
  Skipped obstacle(const Record& record, const Access& access, const std::array<Trail, 2>& trails);
  bool own_pages_hit(const Access& access, const std::array<Trail, 2>& trails) const;
  bool can_execute_fetch(const Record& record);
  bool select();
  Freshness next_freshness();
  void judge_doubt(const Record& record, const Ran& ran, const Result& result,
                   std::uint64_t old_data);

  Trail trail_of(std::uint64_t cr3, std::uint64_t gva);
  void watch_trail(const Trail& trail);
  void watch_data(std::uint64_t gpa, unsigned size);
  void undo();
  std::uint64_t data_at(const Record& record);

  GuestImage image_;
  std::unique_ptr<Engine> engine_;
  RegisterRecord registers_{};
  bool selected_ = false;  // the engine has registers_
  Watch watch_;
  std::uint64_t engine_accesses_ = 0;  // since this engine was opened
  bool large_cached_ = false;          // a large page may be in the TLB since the last full flush
  bool lost_ = false;                  // the image is in doubt until the next reset
};

}  // namespace twinwalk::oracle::unicorn

#endif  // TWINWALK_ORACLE_UNICORN_EXECUTOR_H_
