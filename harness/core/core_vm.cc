#include "harness/core/core_vm.h"

#include <new>

#include "harness/core/vm_config.h"
#include "harness/trace/schema.h"

namespace twinwalk {
namespace {

constexpr std::align_val_t kAlignment{64};

}  // namespace

CoreVm::CoreVm() : storage_(::operator new(mmu::Vm::object_size(), kAlignment)) {}

CoreVm::~CoreVm() { ::operator delete(storage_, kAlignment); }

void CoreVm::create(mmu::Platform& platform, const Machine& machine, mmu::u8* state_counters) {
  machine_ = machine;
  vm_ = mmu::Vm::create(storage_, platform, config_of(machine));
  if (vm_ == nullptr) platform.panic("no VM could be created");
  vm_->set_state_counters(state_counters);
  mmu::MemslotRequest request;
  request.pages = machine.memory_bytes() / mmu::kPageSize;
  request.hva = mmu::Hva{kHvaBase};
  for (request.space = 0; request.space < mmu::kAddressSpaces; ++request.space)
    if (vm_->set_memslot(request) != mmu::Status::kOk) platform.panic("memslot 0 was refused");
  if (has_identity_map(machine)) {
    request.id = kMaxSlots;
    request.gfn = mmu::Gfn{kIdentityMap / mmu::kPageSize};
    request.pages = 1;
    request.hva = mmu::Hva{kIdentityMapHva};
    for (request.space = 0; request.space < mmu::kAddressSpaces; ++request.space)
      if (vm_->set_memslot(request) != mmu::Status::kOk)
        platform.panic("the host's own memslot was refused");
  }
  if (const std::uint64_t bit = shared_bit(machine); bit != 0) {
    const auto all = vm_->set_private(mmu::Gfn{0}, bit / mmu::kPageSize, true);
    if (all != mmu::Status::kOk) platform.panic("private memory was refused");
  }
  for (unsigned v = 0; v < machine.vcpus; ++v) {
    const Registers& r = registers_[v] = initial_registers(machine);
    smm_[v] = false;
    if (!vm_->vcpu(v).set_sregs({r.cr0, r.cr3, r.cr4, r.efer}))
      platform.panic("the initial registers were refused");
  }
}

void CoreVm::destroy() {
  vm_->destroy();
  vm_ = nullptr;
}

void CoreVm::set_cpl(unsigned v, std::uint8_t cpl) {
  if (registers_[v].cpl == cpl) return;
  registers_[v].cpl = cpl;
  vcpu(v).set_cpl(cpl);
}

bool CoreVm::write_register(unsigned v, Reg reg, std::uint64_t value) {
  mmu::Vcpu& cpu = vcpu(v);
  Registers& r = registers_[v];
  bool accepted = true;
  switch (reg) {
    case Reg::kCr0:
      accepted = cpu.set_cr0(value);
      break;
    case Reg::kCr3:
      accepted = cpu.set_cr3(value);
      break;
    case Reg::kCr4:
      accepted = cpu.set_cr4(value);
      break;
    case Reg::kEfer:
      accepted = cpu.set_efer(value);
      break;
    case Reg::kPkru:
      r.pkru = static_cast<std::uint32_t>(value);
      cpu.set_pkru(r.pkru);
      break;
    case Reg::kCpl:
      set_cpl(v, value == 3 ? 3 : 0);
      break;
    case Reg::kAc:
      r.ac = value != 0;
      cpu.set_ac(r.ac);
      break;
  }
  adopt_registers(v);
  return accepted;
}

bool CoreVm::set_sregs(const Op& op) {
  const Registers& r = registers_[op.vcpu];
  const mmu::Sregs sregs{
      op.gives(Field::kCr0) ? op.cr0 : r.cr0, op.gives(Field::kCr3) ? op.cr3 : r.cr3,
      op.gives(Field::kCr4) ? op.cr4 : r.cr4, op.gives(Field::kEfer) ? op.efer : r.efer};
  const bool accepted = vcpu(op.vcpu).set_sregs(sregs);
  adopt_registers(op.vcpu);
  return accepted;
}

void CoreVm::adopt_registers(unsigned v) {
  const mmu::Vcpu& cpu = vcpu(v);
  Registers& r = registers_[v];
  r.cr0 = cpu.cr0();
  r.cr3 = cpu.cr3();
  r.cr4 = cpu.cr4();
  r.efer = cpu.efer();
}

void CoreVm::init(unsigned v, bool reset) {
  vcpu(v).init(reset);
  smm_[v] = false;
  registers_[v] = Registers{};
  registers_[v].pkru = vcpu(v).pkru();
  adopt_registers(v);
}

void CoreVm::recreate(mmu::Platform& platform, unsigned v) {
  const Registers& r = registers_[v] = initial_registers(machine_);
  smm_[v] = false;
  if (vm_->recreate_vcpu(v, {r.cr0, r.cr3, r.cr4, r.efer}) != mmu::Status::kOk)
    platform.panic("the initial registers were refused");
}

bool CoreVm::set_cpuid(const Op& op) {
  Machine after = machine_;
  if (op.gives(Field::kFlags)) after.features = static_cast<std::uint32_t>(op.flags);
  if (op.gives(Field::kValue)) after.maxphyaddr = static_cast<std::uint8_t>(op.value);
  // A vCPU that is made anew has the registers of the machine's mode: what those need stays.
  Machine whole = after;
  reconcile(whole);
  if (whole != after || vm_->set_cpuid(config_of(after).caps) != mmu::Status::kOk) return false;
  machine_ = after;
  return true;
}

}  // namespace twinwalk
