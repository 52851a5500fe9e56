#include "kvm_runner/vmx_image/processor.h"

#include <new>

#include "kvm_runner/guest_memory.h"
#include "kvm_runner/payload/ports.h"
#include "kvm_runner/vmx_image/runner_pages.h"
#include "kvm_runner/vmx_image/runtime/hex.h"
#include "kvm_runner/vmx_image/runtime/stop.h"
#include "kvm_runner/vmx_image/vmx/instructions.h"
#include "kvm_runner/vmx_image/vmx/root_mode.h"

namespace twinwalk::vmx {
namespace {

std::uint64_t take_page() {
  return reinterpret_cast<std::uint64_t>(::operator new(kvm::kPage, std::align_val_t{kvm::kPage}));
}

void must(bool done, const char* what) {
  if (!done) stop(what);
}

}  // namespace

bool Processor::open(const DescriptorTables& tables, std::string& why) {
  if (!read_capabilities(capabilities_, why)) return false;
  if (!enter_root_mode(capabilities_, take_page(), why)) return false;
  for (unsigned v = 0; v < kMaxVcpus; ++v)
    vcpu_[v] = std::make_unique<Vcpu>(capabilities_, tables, take_page(), v);
  return true;
}

// A type that this processor has not is widened to the next one that it has.
void Processor::invvpid(InvvpidType type, unsigned vcpu, std::uint64_t linear) {
  if (!capabilities_.has_vpid()) return;  // every entry and exit flushes
  const Capabilities& c = capabilities_;
  if (type == InvvpidType::kAddress && !c.has(ept_vpid::kInvvpidAddress))
    type = InvvpidType::kSingleContext;
  if (type == InvvpidType::kSingleContextButGlobal && !c.has(ept_vpid::kInvvpidButGlobal))
    type = InvvpidType::kSingleContext;
  if (type == InvvpidType::kSingleContext && !c.has(ept_vpid::kInvvpidSingle))
    type = InvvpidType::kAllContexts;
  must(vmx::invvpid(type, vcpu_[vcpu]->vpid(), linear), "INVVPID fails");
}

void Processor::invept_all() { must(vmx::invept(InveptType::kAllContexts, 0), "INVEPT fails"); }

// SDM 3C "Invalidating Cached Translation Information": of one address INVVPID takes what any PCID
// and global pages have, of a context without its globals all PCIDs.
void Processor::flush_linear(const mmu::FlushRequest& request, unsigned vcpu) {
  switch (request.kind) {
    case mmu::FlushRequest::Kind::kAddress:
      if (kvm::canonical(request.gva.raw))
        return invvpid(InvvpidType::kAddress, vcpu, request.gva.raw);
      // INVVPID takes none that this program's own paging does not.
      if (has(feature::kLa57)) invvpid(InvvpidType::kSingleContext, vcpu, 0);
      return;
    case mmu::FlushRequest::Kind::kPcid:
      return invvpid(InvvpidType::kSingleContextButGlobal, vcpu, 0);
    case mmu::FlushRequest::Kind::kAll:
    case mmu::FlushRequest::Kind::kRange:
      return invvpid(InvvpidType::kSingleContext, vcpu, 0);
  }
}

void Processor::flush(const mmu::FlushRequest& request) {
  for (unsigned v = 0; v < kMaxVcpus; ++v) {
    if (request.vcpu == mmu::FlushRequest::kAllVcpus || request.vcpu == v) flush_linear(request, v);
  }
}

// All vCPUs run on this one processor: one INVEPT is for all of them.
void Processor::flush_nested(const mmu::FlushRequest& request) {
  const bool linear = request.kind == mmu::FlushRequest::Kind::kAddress ||
                      request.kind == mmu::FlushRequest::Kind::kPcid;
  if (linear) return flush(request);
  invept_all();
}

void Processor::flush_vcpu(unsigned vcpu) { invvpid(InvvpidType::kSingleContext, vcpu, 0); }

void Processor::flush_all() {
  for (unsigned v = 0; v < kMaxVcpus; ++v) flush_vcpu(v);
  if (capabilities_.has_ept()) invept_all();
}

kvm::StubExit stub_exit_of(const Exit& exit) {
  using Kind = kvm::StubExit::Kind;
  using Nested = kvm::NestedExit::Kind;
  kvm::StubExit out;
  out.rip = exit.rip;
  out.rax = exit.registers.rax;
  const auto broken = [&out](std::string why) {
    out.kind = Kind::kBroken;
    out.why = std::move(why);
  };
  const auto nested = [&](Nested kind) {
    out.kind = Kind::kSecondDimension;
    out.nested = {kind, exit.qualification, exit.gpa};
  };
  if (!exit.entered) return broken(exit.why), out;
  switch (exit.reason) {
    case ExitReason::kIo:
      if (exit.qualification >> 16 == TWINWALK_PORT_DONE) return out;
      break;
    case ExitReason::kException:
      // Of CPL 3 that is a stub's end.
      if (exit.vector == kvm::kVectorBp && is_in_user_code(exit.rip)) return out;
      out.kind = Kind::kException;
      out.vector = exit.vector;
      out.error_code = exit.error_code;
      out.cr2 = exit.vector == kvm::kVectorPf ? exit.qualification : 0;
      return out;
    case ExitReason::kTripleFault:
      out.shutdown = true;
      return broken("a triple fault"), out;
    case ExitReason::kTimer:
      out.kind = Kind::kHang;
      return out;
    case ExitReason::kEptViolation:
      return nested(Nested::kViolation), out;
    case ExitReason::kEptMisconfig:
      return nested(Nested::kMisconfiguration), out;
    case ExitReason::kPmlFull:
      return nested(Nested::kLogFull), out;
    default:
      break;
  }
  return broken("VM exit, reason " + hex(static_cast<unsigned>(exit.reason)) + " qualification " +
                hex(exit.qualification) + " rip " + hex(exit.rip)),
         out;
}

}  // namespace twinwalk::vmx
