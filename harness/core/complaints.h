#ifndef TWINWALK_HARNESS_CORE_COMPLAINTS_H_
#define TWINWALK_HARNESS_CORE_COMPLAINTS_H_

// What a subject of the core finds to be wrong, until the step's outcome takes it.

#include <string>

#include "harness/trace/outcome.h"
#include "mmu_core/mmu.h"

namespace twinwalk {

Complaint complaint_of(mmu::AuditFinding::Class cls);

class Complaints final : public mmu::AuditSink {
 public:
  void clear() { first_ = Complaint::kNone; }
  // The first complaint of a step stands; what comes after it may follow from it.
  void add(Complaint complaint, const char* text);
  // Stands before what was added so far, since that may follow from it.
  void put_first(Complaint complaint, const char* text);
  // Moves what was added into the outcome, which keeps what it has.
  void move_to(OutcomeStream& out, Outcome& outcome);

  void on_finding(const mmu::AuditFinding& finding) override;

 private:
  Complaint first_ = Complaint::kNone;
  std::string text_;
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_CORE_COMPLAINTS_H_
