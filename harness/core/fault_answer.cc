#include "harness/core/fault_answer.h"

#include "harness/core/access_shape.h"

namespace twinwalk {
namespace {

mmu::Access access_of(AccessKind kind) {
  switch (kind) {
    case AccessKind::kRead:
      return mmu::Access::kRead;
    case AccessKind::kWrite:
      return mmu::Access::kWrite;
    case AccessKind::kFetch:
      return mmu::Access::kFetch;
    case AccessKind::kRmw:
      return mmu::Access::kRmw;
  }
  return mmu::Access::kRead;
}

void page_fault(std::uint32_t error_code, std::uint64_t cr2, Outcome& out) {
  out.kind = OutcomeKind::kPageFault;
  out.error_code = error_code;
  out.cr2 = cr2;
}

void mmio(const Op& op, mmu::Gpa gpa, Outcome& out) {
  out.kind = OutcomeKind::kMmio;
  out.gpa[0] = gpa.raw;
  out.write = stores(op);
}

// A fetch is of the one word in which its address lies.
bool emulate(mmu::Vcpu& vcpu, const Op& op, Outcome& out) {
  const bool fetch = op.access() == AccessKind::kFetch;
  const std::uint64_t offset = fetch ? op.gva & 7 : 0;
  const mmu::EmulateResult r =
      vcpu.emulate(mmu::Gva{op.gva - offset}, access_of(op.access()),
                   fetch ? 8 : static_cast<unsigned>(op.size), op.value, op.implicit != 0);
  switch (r.kind) {
    case mmu::EmulateResult::Kind::kDone:
      out.kind = OutcomeKind::kOk;
      out.gpa[0] = r.gpa.raw + offset;
      if (crosses(op)) out.gpa[1] = r.gpa2.raw;
      if (op.access() != AccessKind::kWrite) out.value = r.value;
      return true;
    case mmu::EmulateResult::Kind::kInject:
      page_fault(r.error_code, r.fault_gva.raw + offset, out);
      return true;
    case mmu::EmulateResult::Kind::kMmio:
      mmio(op, mmu::Gpa{r.gpa.raw + offset}, out);
      return true;
    case mmu::EmulateResult::Kind::kNoMemory:
    case mmu::EmulateResult::Kind::kRetry:
    case mmu::EmulateResult::Kind::kPoisoned:  // no memory of this host ever is
      return false;
  }
  return false;
}

// The vCPU has nothing else to do meanwhile, and tries again.
bool page_arrives(mmu::Vcpu& vcpu, const mmu::FaultResult& r) {
  vcpu.async_page_ready(r.token);
  return false;
}

}  // namespace

bool answer_fault(mmu::Vcpu& vcpu, const Op& op, std::uint64_t fault_gva, std::uint32_t error_code,
                  Outcome& out) {
  const mmu::FaultResult r = vcpu.handle_fault(mmu::Gva{fault_gva}, error_code, op.implicit != 0);
  switch (r.kind) {
    case mmu::FaultResult::Kind::kRetry:
    case mmu::FaultResult::Kind::kNoMemory:
    case mmu::FaultResult::Kind::kPoisoned:
      return false;
    case mmu::FaultResult::Kind::kLater:
      return page_arrives(vcpu, r);
    case mmu::FaultResult::Kind::kInject:
      page_fault(r.error_code, fault_gva, out);
      return true;
    case mmu::FaultResult::Kind::kEmulate:
      return emulate(vcpu, op, out);
    case mmu::FaultResult::Kind::kMemoryFault:  // the device model converts, or answers
    case mmu::FaultResult::Kind::kMmio:
      if (crosses(op)) return emulate(vcpu, op, out);  // the other half decides as well
      mmio(op, r.gpa, out);
      return true;
  }
  return false;
}

// An access to a device is the emulator's: it sets A and D of the guest's entries where the
// processor had not got to it, and does the other half of one that crosses a page.
bool answer_tdp_fault(mmu::Vcpu& vcpu, const Op& op, const mmu::TdpFault& fault, Outcome& out) {
  const mmu::FaultResult r = vcpu.handle_tdp_fault(fault);
  switch (r.kind) {
    case mmu::FaultResult::Kind::kRetry:
    case mmu::FaultResult::Kind::kNoMemory:
    case mmu::FaultResult::Kind::kPoisoned:
    case mmu::FaultResult::Kind::kInject:  // the guest's faults do not come here
      return false;
    case mmu::FaultResult::Kind::kLater:
      return page_arrives(vcpu, r);
    case mmu::FaultResult::Kind::kEmulate:
    case mmu::FaultResult::Kind::kMemoryFault:
    case mmu::FaultResult::Kind::kMmio:
      return emulate(vcpu, op, out);
  }
  return false;
}

}  // namespace twinwalk
