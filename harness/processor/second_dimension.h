#ifndef TWINWALK_HARNESS_PROCESSOR_SECOND_DIMENSION_H_
#define TWINWALK_HARNESS_PROCESSOR_SECOND_DIMENSION_H_

// The walk from guest-physical to host-physical addresses, by EPT or NPT, through the
// guest-physical mappings of the cache.
//
//   gpa ─► mapping cached? ──yes─► its rights suffice, and D is set for a write? ──► hpa
//              │ no                         │ no: a violation (AMD walks again)
//              ▼                            ▼
//          deepest structure cached,      exit: drops what would translate this gpa
//          else the root: entry by entry present, then well formed; rights at the end;
//          then A and D, as one step (or the log is full); and only then all of it is cached

#include <cstdint>

#include "harness/processor/combined_cache.h"
#include "harness/processor/nested_format.h"
#include "harness/processor/physical_memory.h"
#include "harness/trace/machine.h"
#include "harness/trace/outcome.h"

namespace twinwalk::processor {

// Page-modification log, SDM 3C §"Page-Modification Logging": filled from the last entry down.
struct PageLog {
  static constexpr std::uint16_t kEntries = 512;
  std::uint64_t* page = nullptr;
  std::uint16_t index = kEntries - 1;  // of the next entry; above kEntries - 1: full
};

struct NestedControls {
  NestedFormat::Kind kind = NestedFormat::Kind::kNone;
  std::uint64_t pointer = 0;  // EPTP or nCR3
  std::uint16_t vpid = 0;     // or ASID
  PageLog* log = nullptr;     // null: off
};

// What is asked of a guest-physical address.
struct GpaAccess {
  bool read = false, write = false, fetch = false;
  bool user_linear = false;   // fetch: from a user-mode linear address
  bool table = false;         // of one of the guest's paging-structure entries
  bool gva_valid = true;      // for the sake of a linear address
  std::uint8_t advanced = 0;  // bits 11:9 of an EPT violation's qualification
};

struct NestedExit {
  enum class Kind : std::uint8_t {
    kEptViolation,
    kEptMisconfig,
    kNestedFault,
    kPageLogFull
  } kind = Kind::kEptViolation;
  std::uint64_t gpa = 0, qualification = 0;
};

struct HostPage {
  std::uint64_t hpa = 0;  // of the byte asked for
  std::uint8_t level = 1;
  NestedRights rights;
  bool dirty = false;
};

class SecondDimension {
 public:
  SecondDimension(PhysicalMemory& memory, CombinedCache& cache) : memory_(memory), cache_(cache) {}

  void reset(const Machine& machine);
  const NestedFormat& format(NestedFormat::Kind kind) const {
    return kind == NestedFormat::Kind::kNpt ? npt_ : ept_;
  }

  // Where guest-physical mappings of these controls are cached.
  static Context context_of(const NestedControls& controls, std::uint8_t vcpu);
  // What tags everything that comes of this pointer. With AMD the ASID alone does.
  static std::uint64_t ep4ta(const NestedControls& controls);
  // Whether accesses to the guest's tables count as writes.
  bool tables_are_written(const NestedControls& controls) const {
    return controls.kind != NestedFormat::Kind::kNone &&
           format(controls.kind).flags_on(controls.pointer);
  }
  static bool allows(const NestedRights& rights, const GpaAccess& access) {
    return (!access.read || rights.read) && (!access.write || rights.write) &&
           (!access.fetch || (access.user_linear ? rights.user_execute : rights.execute));
  }

  // False: an exit, nothing happened.
  bool translate(const NestedControls& controls, std::uint8_t vcpu, std::uint64_t gpa,
                 const GpaAccess& access, HostPage& page, NestedExit& exit);
  // The exit of an access to `gpa` that a mapping with these rights does not allow, as it comes
  // from a combined mapping.
  void refuse(const NestedControls& controls, std::uint8_t vcpu, std::uint64_t gpa,
              const GpaAccess& access, const NestedRights& rights, NestedExit& exit);
  // Where the tables as they are lead, whatever the rights; nothing is cached, no flag is set.
  // `path`, if given, gets the entries on the way.
  bool peek(const NestedControls& controls, std::uint64_t gpa, std::uint64_t& hpa,
            NestedPath* path = nullptr) const;

 private:
  struct Walk;

  bool walk(const NestedControls& controls, const Context& context, std::uint64_t gpa,
            const GpaAccess& access, HostPage& page, NestedExit& exit);
  bool set_flags(const NestedControls& controls, const Walk& walk, std::uint64_t gpa, bool write,
                 NestedExit& exit, bool& again);
  void remember(const NestedControls& controls, const Context& context, const Walk& walk,
                std::uint64_t gpa, const HostPage& page);
  void violation(const NestedControls& controls, std::uint64_t gpa, const GpaAccess& access,
                 const NestedRights* rights, NestedExit& exit) const;
  void malformed(const NestedControls& controls, std::uint64_t gpa, const GpaAccess& access,
                 NestedExit& exit) const;

  PhysicalMemory& memory_;
  CombinedCache& cache_;
  NestedFormat ept_, npt_;
  bool advanced_ = false, nxe_ = false;
};

}  // namespace twinwalk::processor

#endif  // TWINWALK_HARNESS_PROCESSOR_SECOND_DIMENSION_H_
