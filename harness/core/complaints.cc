#include "harness/core/complaints.h"

namespace twinwalk {

Complaint complaint_of(mmu::AuditFinding::Class cls) {
  using Class = mmu::AuditFinding::Class;
  switch (cls) {
    case Class::kRmap:
      return Complaint::kAuditRmap;
    case Class::kParent:
      return Complaint::kAuditParent;
    case Class::kUnsync:
      return Complaint::kAuditUnsync;
    case Class::kHash:
      return Complaint::kAuditHash;
    case Class::kCount:
      return Complaint::kAuditCount;
    case Class::kRole:
      return Complaint::kAuditRole;
    case Class::kContent:
      return Complaint::kAuditContent;
    case Class::kReserved:
      return Complaint::kAuditReserved;
    case Class::kWritable:
      return Complaint::kAuditWritable;
    case Class::kNotifier:
      return Complaint::kAuditNotifier;
    case Class::kDirty:
      return Complaint::kAuditDirty;
    case Class::kLeak:
      return Complaint::kAuditLeak;
  }
  return Complaint::kTrap;
}

void Complaints::add(Complaint complaint, const char* text) {
  if (first_ == Complaint::kNone) put_first(complaint, text);
}

void Complaints::put_first(Complaint complaint, const char* text) {
  first_ = complaint;
  text_ = text;
}

void Complaints::move_to(OutcomeStream& out, Outcome& outcome) {
  if (first_ == Complaint::kNone) return;
  if (outcome.complaint == Complaint::kNone) outcome.complaint = first_;
  if (out.complaint_text.empty()) out.complaint_text = text_;
  first_ = Complaint::kNone;
}

void Complaints::on_finding(const mmu::AuditFinding& finding) {
  add(complaint_of(finding.cls), finding.what);
}

}  // namespace twinwalk
