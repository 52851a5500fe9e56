#ifndef TWINWALK_ORACLE_COURSE_H_
#define TWINWALK_ORACLE_COURSE_H_

// The ways that an access in guest mode may take through both dimensions.
//
//   gva ──► guest root ──► guest entry ──► ... ──► guest leaf ──► gpa
//                │              │                      │           │
//             gpa of an entry: each is translated by the second    │ and so is the result
//                ▼              ▼                      ▼           ▼
//             nested walk    nested walk            nested walk  nested walk ──► hpa
//
// A walk is one straight line (CourseWalker). Wherever more than one value may be in use (an entry
// as it is now, or as it was when something was cached from it) or the manual leaves an order open,
// the line asks a Chooser; all courses together are what the manuals permit, the first one is the
// fresh walk. SDM 3C §"Prioritization of EPT Misconfigurations and EPT Violations"; APM 2 §"Nested
// versus Guest Page Faults, Fault Ordering".

#include <array>
#include <cstdint>

#include "harness/trace/outcome.h"
#include "oracle/access.h"
#include "oracle/machine_state.h"
#include "oracle/second_dimension.h"

namespace twinwalk::oracle {

// Goes through all sequences of choices, the first alternative of each first.
class Chooser {
 public:
  // Of `n` alternatives the one to take now.
  unsigned pick(unsigned n);
  // On to the next sequence. False: there is none.
  bool advance();
  bool too_long() const { return too_long_; }
  // Some sequences were not looked at.
  bool unfinished() const { return too_long_ || known_ != 0; }
  void give_up() { too_long_ = true; }

 private:
  static constexpr unsigned kMost = 128;
  std::array<std::uint16_t, kMost> taken_, of_;
  unsigned used_ = 0, known_ = 0;
  bool too_long_ = false;
};

// What one course of an access does to memory: bits that become 1. Some may or may not, where what
// was cached of an entry makes no other difference.
struct SetBits {
  std::uint64_t word;  // 8-aligned address of physical memory
  std::uint64_t may, must;
};

// Open bits (open_bits.h) of an entry that decide what it is, as where A is reserved: a course
// takes them to be set, or clear.
struct Doubt {
  std::uint64_t at = 0, bits = 0;
  bool set = false;
  friend bool operator==(const Doubt&, const Doubt&) = default;
};

// One course and what becomes visible of it.
struct Course {
  OutcomeKind kind = OutcomeKind::kOk;
  const Rule* rule = nullptr;  // what decides
  bool undefined = false;      // the manual does not say what happens here; `rule` says why
  bool old = false;            // something that is not in memory now was used
  bool begins_again = false;   // a fault that nobody sees: AMD's processor walks again
  std::uint8_t part = 0;       // of an access in two parts the one that ends it
  std::uint8_t parts = 0;      // 0: a non-canonical address
  bool by_page = false;   // of an access that crosses a page addresses are known by their page only
  std::uint64_t gva = 0;  // of the part
  std::uint64_t hpa[2] = {0, 0};              // kOk, kMmio (of `part`)
  std::uint32_t error_code = 0;               // kPageFault
  std::uint64_t gpa = kUnknownGpa;            // exits
  bool final_address = false;                 // gpa is the translation of a linear address
  std::uint64_t qualification = 0;            // kEptViolation, kNestedFault
  std::uint64_t defined = ~std::uint64_t{0};  // bits of it that the manual defines
  std::uint64_t page_bytes = kPageBytes;      // kPageFault: of the page that maps the address

  static constexpr unsigned kMostSets = 80, kMostLogged = 12;
  // Nothing is written to what is not in use: a search makes many of these.
  std::array<SetBits, kMostSets> sets;
  unsigned set_count = 0;
  std::array<std::uint64_t, kMostLogged> logged;
  unsigned logged_count = 0;
  static constexpr unsigned kMostDoubts = 8;
  Doubt doubts[kMostDoubts];
  unsigned doubt_count = 0;

  void set(std::uint64_t at, std::uint64_t may, std::uint64_t must);
  SetBits sets_in(std::uint64_t word) const;
  void doubt(const Doubt& d) {
    if (d.bits != 0 && doubt_count < kMostDoubts) doubts[doubt_count++] = d;
  }
  std::uint64_t set_in_byte(std::uint64_t at) const {
    return sets_in(at & ~std::uint64_t{7}).must >> 8 * (at & 7) & 0xff;
  }
  std::uint64_t may_set_in_byte(std::uint64_t at) const {
    return sets_in(at & ~std::uint64_t{7}).may >> 8 * (at & 7) & 0xff;
  }
  // Of an entry of 4 or 8 bytes.
  std::uint64_t set_in_entry(std::uint64_t at, unsigned bytes) const {
    const std::uint64_t must = sets_in(at & ~std::uint64_t{7}).must;
    return bytes == 8 ? must : must >> 8 * (at & 4) & 0xffff'ffff;
  }
};

// What a person wants to see of a course.
struct CourseNote {
  bool guest = false;  // an entry of the guest's tables; else of the second dimension
  bool final_address = false;
  std::uint8_t part = 0, level = 0;
  bool from_register = false;
  std::uint64_t gpa = 0;  // guest: of the entry; else the address that is translated
  std::uint64_t at = 0;   // in physical memory
  std::uint64_t entry = 0;
};
class CourseNotes {
 public:
  virtual void note(const CourseNote&) = 0;

 protected:
  ~CourseNotes() = default;
};

// An access, or a load of PDPTE registers, in guest mode.
struct GuestAccess {
  const MachineState* state = nullptr;
  unsigned vcpu = 0;
  AccessContext context;  // of an access
  GuestTag tag;
  bool ignore_windows = false;  // as if nothing had been invalidated: for a verdict's class
};
// `query` must outlive the result.
GuestAccess make_guest_access(const MachineState& state, unsigned vcpu, const AccessQuery& query);

// One walk. Without a chooser: the fresh one.
// False: these choices do not go together.
bool walk_course(const GuestAccess& access, Chooser* chooser, Course& out,
                 CourseNotes* notes = nullptr);

// The same of a load of PDPTE registers from `gpa` (the first one's address): kOk, or an exit.
bool walk_pdptes_load(const GuestAccess& access, std::uint64_t gpa, Chooser* chooser, Course& out);

// What a subject that takes this course shows.
Outcome outcome_of(const GuestAccess& access, const Course& course);

FreshOutcome fresh_in_guest(const MachineState& state, unsigned vcpu, const AccessQuery& query);

// The guest's entries for `gva` as memory has them now, as far as they can be read.
struct GuestPath {
  Path path;
  std::uint64_t at[kMaxLevels] = {};  // in physical memory
  bool whole = true;                  // false: it ends where a table cannot be reached
};
GuestPath guest_path(const GuestAccess& access, std::uint64_t gva);

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_COURSE_H_
