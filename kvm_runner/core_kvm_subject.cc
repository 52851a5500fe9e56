#include "kvm_runner/core_kvm_subject.h"

#include <algorithm>

#include "harness/core/access_shape.h"
#include "kvm_runner/layout.h"
#include "kvm_runner/subjects.h"

namespace twinwalk::kvm {
namespace {

// The processor runs 64-bit stubs: guests in the other modes hang below its root, too.
constexpr std::uint8_t kLeastLevels = 4;

}  // namespace

bool CoreKvmSubject::open(std::string& why) {
  if (!host_.open(why) || !mapping_.open(why)) return false;
  arena_.use(mapping_.place());
  if ((host_.features() & feature::kNx) == 0) return why = "the host offers no NX", false;
  info_ = {"core-kvm", "in-tree core on " + host_.version(), Profile::kKvm, true, {}};
  return true;
}

SkipReason CoreKvmSubject::prepare(const Machine& machine) {
  vm_.reset();
  reset_host(machine);
  if (machine.core != Dimension::kShadow) return SkipReason::kModeNotSupported;
  if (machine.nested != Nesting::kNone) return SkipReason::kNestedNotSupported;
  machine_.host_levels = std::max(machine.host_levels, kLeastLevels);
  image_valid_ = fit_maxphyaddr(machine, host_.maxphyaddr()) &&
                 (machine_.host_levels <= kLeastLevels || has_host(feature::kLa57)) &&
                 open_vm(machine_);
  return image_valid_ ? SkipReason::kNone : SkipReason::kHostLacksFeature;
}

// Its processor: everything that the host has, MAXPHYADDR as the core believes, WP and NXE on.
bool CoreKvmSubject::open_vm(const Machine& machine) {
  Machine processor = machine;
  processor.mode = Mode::k4Level;
  processor.vendor = host_.vendor();  // the guest's vendor is the core's affair
  processor.maxphyaddr = machine.host_maxphyaddr;
  processor.features = host_.features();
  processor.options = 0;  // the core's
  Registers registers;
  registers.cr3 = arena_.place().hpa;
  registers.cr4 = kCr4;
  std::string why;
  vm_ = Vm::create(host_, processor, {}, registers, why);
  loaded_ = {};
  const CoreArena::Place& place = arena_.place();
  return vm_ && vm_->set_slot(0, place.hpa, place.bytes(), place.memory, 0) == 0;
}

void CoreKvmSubject::after_run(bool trapped) {
  vm_.reset();
  end_run(trapped);
}

// What the processor checks the core's entries with. It has no tags: another PCID is another
// address space.
void CoreKvmSubject::load_paging(const Op& op, const mmu::EntryState& entry) {
  Loaded& loaded = loaded_[op.vcpu];
  Loaded wanted{entry.root.raw, kCr4, entry.pcid, loaded.pkru};
  if (entry.levels == 5) wanted.cr4 |= cr4::kLa57;
  // Where the host has no such check this access does not need it: lacks_check().
  if (entry.smep && has_host(feature::kSmep)) wanted.cr4 |= cr4::kSmep;
  if (entry.smap && has_host(feature::kSmap)) wanted.cr4 |= cr4::kSmap;
  if (entry.pke && has_host(feature::kPku)) wanted.cr4 |= cr4::kPke;
  const bool flushed = loaded.cr3 == 0;
  if (!flushed && loaded.pcid != wanted.pcid) vm_->zap_translations();
  if (loaded.cr3 != wanted.cr3 || loaded.cr4 != wanted.cr4)
    vm_->set_paging(op.vcpu, wanted.cr3, wanted.cr4);
  if (flushed) vm_->run(op.vcpu, {Stub::kFlushAll, 0, 0, 0, false});
  if ((wanted.cr4 & cr4::kPke) != 0 && loaded.pkru != registers_of(op).pkru) {
    wanted.pkru = registers_of(op).pkru;
    vm_->run(op.vcpu, {Stub::kWritePkru, wanted.pkru, 0, 0, false});
  }
  loaded = wanted;
}

StubExit CoreKvmSubject::run_in_guest(const Op& op, const mmu::EntryState& entry,
                                      const StubCall& call) {
  load_paging(op, entry);
  return vm_->run(op.vcpu, call);
}

// A KVM that emulates CPL 0: a page-crossing store there stores its first part before it translates
// the second, an access that crosses the edge of the canonical addresses faults like any other, and
// entry 256 of the root is its own at CPL 3.
bool CoreKvmSubject::is_beyond(const Op& op, const mmu::EntryState&) const {
  if (!host_.emulates_supervisor()) return false;
  const Registers& r = registers_of(op);
  const std::uint64_t first = linear(r, op.gva), last = linear(r, op.gva + op.size - 1);
  const bool supervisor = r.cpl == 0;
  if (!supervisor && (first >> 39 & 511) == 256) return true;
  return crosses(op) && ((supervisor && stores(op)) || canonical(r, first) != canonical(r, last));
}

// A processor checks read-modify-write as a store from the start; an emulator reads first.
std::uint32_t CoreKvmSubject::error_code_of(const Op& op, const StubExit& exit) const {
  const bool reads_first = host_.emulates_supervisor() && op.access() == AccessKind::kRmw;
  return exit.error_code | (reads_first ? pfec::kW : 0);
}

void CoreKvmSubject::flush_tlb(const mmu::FlushRequest& request) {
  (void)request;
  vm_->zap_translations();
  for (Loaded& l : loaded_) l.cr3 = 0;  // the next entry flushes before it runs
}

}  // namespace twinwalk::kvm

namespace twinwalk {

std::unique_ptr<Subject> make_core_kvm_subject(std::string& why) {
  auto subject = std::make_unique<kvm::CoreKvmSubject>();
  if (!subject->open(why)) return nullptr;
  return subject;
}

}  // namespace twinwalk
