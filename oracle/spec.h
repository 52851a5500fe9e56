#ifndef TWINWALK_ORACLE_SPEC_H_
#define TWINWALK_ORACLE_SPEC_H_

// The `spec` reference: a walker written from the SDM and the model of permitted
// staleness, over a memory image of its own. Verify, then adopt.

#include <cstdint>
#include <memory>

#include "harness/trace/outcome.h"
#include "harness/trace/program.h"
#include "harness/trace/verdict.h"
#include "oracle/walk_view.h"

namespace twinwalk::oracle {

// One access as the architecture sees it, for a walker that knows nothing of traces.
struct AccessQuery {
  std::uint64_t gva = 0;
  std::uint8_t size = 8;
  AccessKind kind = AccessKind::kRead;
  bool implicit = false;
  std::uint64_t value = 0;  // what a store writes / what RMW adds
  Registers registers;      // with the effective cpl
};

// What a fresh walk of the current image gives, before any adoption.
struct FreshOutcome {
  OutcomeKind kind = OutcomeKind::kOk;
  // kGp of an access across the canonical edge: the #PF of the canonical half, by `error_code` and
  // `cr2`, may come first (rule crossing).
  bool or_page_fault = false;
  std::uint32_t error_code = 0;
  std::uint64_t cr2 = 0;
  std::uint64_t qualification = 0;  // in guest mode, as in Outcome
  std::uint64_t gpa[2] = {kUnknownGpa, kUnknownGpa};
  std::uint64_t value = 0;
  // The entries of the walk (PAE: from the PDPTE register) as the access must leave them: A set in
  // every entry used and D in the leaf of a write where the access completes; as they were where it
  // faults (a processor MAY have set A's there, never D).
  Path path[2];
};

// Sees everything that changes the image and every fresh walk, in order: how Unicorn is driven
// alongside.
class SpecObserver {
 public:
  virtual void on_reset(const Machine&) = 0;
  // The guest's capabilities are this machine's from now on.
  virtual void on_capabilities(const Machine&) {}
  // Memory became `value` at gpa (size 1..8, not crossing 8 bytes), for whatever reason.
  virtual void on_memory(std::uint64_t gpa, unsigned size, std::uint64_t value) = 0;
  // Called with the image as it is just before the access takes effect. Only for accesses of one
  // vCPU, all of whose tables lie in memory, and that do not cross the end of 32-bit addresses;
  // in SMM only while its memslots show what those outside it show.
  virtual void on_access(std::uint32_t step, const AccessQuery&, const FreshOutcome&) = 0;

  // False: on_access is not called (and costs nothing).
  virtual bool wants_accesses() const { return true; }

 protected:
  ~SpecObserver() = default;
};

struct Counters {
  std::uint64_t checks = 0;  // outcomes judged
  std::uint64_t fresh = 0;   // agreed with the fresh walk
  std::uint64_t stale = 0;   // explained by permitted staleness
  std::uint64_t unspecified = 0;
};

class Spec {
 public:
  Spec();
  ~Spec();
  Spec(const Spec&) = delete;
  Spec& operator=(const Spec&) = delete;

  // Starts a new trace. Costs in proportion to what the last one touched.
  void reset(const Machine& machine, Profile profile);
  void observe(SpecObserver* observer);  // nullptr: none

  // Judges the outcome that a subject had in `step` (number `index` of its program) and follows it.
  // After kDiverge the reference has adopted its own (fresh) answer, so that later verdicts still
  // mean something. `extra` is OutcomeStream::extra. Writes only to `out`; allocates nothing on
  // kAgree.
  void judge(std::uint32_t index, const Step& step, const Outcome& got, const std::uint64_t* extra,
             Verdict& out);

  // A search for former values gave up: of the rest of the trace nothing is judged, and memory may
  // be other than it is here.
  bool lost_track() const;

  // That step has begun, and steps that it overlaps are judged before it.
  void under_way(const Step& step);
  // Now it is that step's turn.
  void under_way_no_more(const Step& step);
  // Whether the path that an access showed, judged without it, can have been read now. Then it is
  // followed.
  bool shows(const Step& step, const Outcome& got);

  // The fresh walk alone, nothing adopted: for sweeps, the benchmark and Unicorn's equivalence
  // check.
  FreshOutcome fresh(unsigned vcpu, const AccessQuery& query) const;

  // The same walk opened up for people, with the stale outcomes that would be permitted. Changes
  // nothing; allocates.
  WalkView view(unsigned vcpu, const AccessQuery& query) const;

  const Registers& registers(unsigned vcpu) const;
  bool in_guest(unsigned vcpu) const;
  bool in_smm(unsigned vcpu) const;
  const Machine& machine() const;  // as `cpuid` left it
  // Below, gpas are of address space 0.
  std::uint64_t read_word(std::uint64_t gpa) const;  // 8-aligned; memory only
  // A subject whose word at `gpa` is `got` may lawfully hold these bits other than read_word: A and
  // D of an entry that nothing could show yet, and under profile architecture A that speculation
  // set.
  std::uint64_t open_bits(std::uint64_t gpa, std::uint64_t got) const;
  void write_word(std::uint64_t gpa,
                  std::uint64_t value);  // sweep set-up: as Writer::kHost before any access
  const Counters& counters() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_SPEC_H_
