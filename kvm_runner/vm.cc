#include "kvm_runner/vm.h"

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "harness/trace/content.h"
#include "kvm_runner/harness_image.h"
#include "kvm_runner/kvm_abi.h"
#include "kvm_runner/payload/ports.h"

namespace twinwalk::kvm {
namespace {

constexpr unsigned kStepMilliseconds = 1000;  // a stub takes microseconds
constexpr unsigned kMaxExits = 64;            // an access splits into a few exits at most
constexpr std::uint64_t kRflagsFixed = 2, kRflagsAc = 1 << 18;

bool pushes_error_code(unsigned vector) {
  return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21;
}

// KVM gave up on INT3 at CPL 0, which the word that a fetch finds ends with: arriving there is all
// that was asked.
bool is_unemulated_int3(const kvm_run& run) {
  const auto& failure = run.emulation_failure;
  return run.exit_reason == KVM_EXIT_INTERNAL_ERROR &&
         failure.suberror == KVM_INTERNAL_ERROR_EMULATION && failure.ndata >= 3 &&
         (failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) != 0 &&
         failure.insn_size > 0 && failure.insn_bytes[0] == 0xcc;
}

bool is_in_user_code(std::uint64_t rip) {
  return rip - harness_linear(harness_page::kUserCode) < kPage;
}

// The runner is the device behind every address without memslot: loads see mmio_word, stores
// vanish.
void answer_device(kvm_run* run, DeviceAccess& first) {
  auto& mmio = run->mmio;
  if (!first.seen) first = {true, mmio.is_write != 0, mmio.phys_addr};
  if (mmio.is_write) return;
  for (unsigned i = 0; i < mmio.len && i < sizeof(mmio.data); ++i) {
    const std::uint64_t gpa = mmio.phys_addr + i;
    mmio.data[i] = static_cast<std::uint8_t>(extract(mmio_word(gpa), gpa & 7, 1));
  }
}

}  // namespace

Vm::~Vm() {
  for (Cpu& cpu : cpus_) {
    if (cpu.run != nullptr) munmap(cpu.run, run_bytes_);
    if (cpu.fd >= 0) close(cpu.fd);
  }
  if (fd_ >= 0) close(fd_);
  if (memory_ != nullptr) munmap(memory_, harness_page::kCount * kPage);
}

std::unique_ptr<Vm> Vm::create(const Host& host, const Machine& machine, const Registers& registers,
                               std::string& why) {
  std::unique_ptr<Vm> vm(new Vm);
  const auto refuse = [&](const char* what) {
    why = std::string(what) + ": " + std::strerror(errno);
    return nullptr;
  };
  vm->fd_ = ioctl(host.fd(), KVM_CREATE_VM, 0);
  if (vm->fd_ < 0) return refuse("KVM_CREATE_VM");
  const int bytes = ioctl(host.fd(), KVM_GET_VCPU_MMAP_SIZE, 0);
  if (bytes < 0) return refuse("KVM_GET_VCPU_MMAP_SIZE");
  vm->run_bytes_ = static_cast<std::size_t>(bytes);
  const std::size_t harness_bytes = harness_page::kCount * kPage;
  void* memory =
      mmap(nullptr, harness_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return refuse("mmap");
  vm->memory_ = static_cast<std::uint64_t*>(memory);
  vm->vcpus_ = machine.vcpus;
  build_harness_image(vm->memory_, machine.vcpus);
  errno = vm->set_slot(kHarnessSlot, kHarnessGpa, harness_bytes - kPage, memory, 0);
  if (errno != 0) return refuse("KVM_SET_USER_MEMORY_REGION");
  for (unsigned i = 0; i < machine.vcpus; ++i) {
    if (!vm->add_vcpu(host, machine, registers, i, why)) return nullptr;
  }
  return vm;
}

bool Vm::add_vcpu(const Host& host, const Machine& machine, const Registers& registers,
                  unsigned index, std::string& why) {
  const auto refuse = [&](const char* what) {
    why = std::string(what) + ": " + std::strerror(errno);
    return false;
  };
  Cpu& cpu = cpus_[index];
  cpu.fd = ioctl(fd_, KVM_CREATE_VCPU, index);
  if (cpu.fd < 0) return refuse("KVM_CREATE_VCPU");
  void* run = mmap(nullptr, run_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, cpu.fd, 0);
  if (run == MAP_FAILED) return refuse("mmap of the vCPU");
  cpu.run = static_cast<kvm_run*>(run);
  const auto cpuid = host.cpuid_for(machine);
  errno = -twinwalk_kvm_set_cpuid(cpu.fd, cpuid.data(), static_cast<unsigned>(cpuid.size()));
  if (errno != 0) return refuse("KVM_SET_CPUID2");
  kvm_sregs sregs;
  if (ioctl(cpu.fd, KVM_GET_SREGS, &sregs) != 0) return refuse("KVM_GET_SREGS");
  sregs.cr0 = registers.cr0;
  sregs.cr3 = registers.cr3;
  sregs.cr4 = registers.cr4;
  sregs.efer = registers.efer;
  set_descriptor_registers(sregs, index);
  if (ioctl(cpu.fd, KVM_SET_SREGS, &sregs) != 0) return refuse("KVM_SET_SREGS");
  cpu.run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
  cpu.run->s.regs.sregs = sregs;
  return true;
}

int Vm::set_slot(unsigned id, std::uint64_t gpa, std::uint64_t bytes, void* memory,
                 std::uint32_t flags) {
  kvm_userspace_memory_region region{};
  region.slot = id;
  region.flags = flags;
  region.guest_phys_addr = gpa;
  region.memory_size = bytes;
  region.userspace_addr = reinterpret_cast<std::uint64_t>(memory);
  return ioctl(fd_, KVM_SET_USER_MEMORY_REGION, &region) == 0 ? 0 : errno;
}

int Vm::dirty_log(unsigned id, std::uint64_t* bitmap) {
  kvm_dirty_log log{};
  log.slot = id;
  log.dirty_bitmap = bitmap;
  return ioctl(fd_, KVM_GET_DIRTY_LOG, &log) == 0 ? 0 : errno;
}

void Vm::zap_translations() {
  void* spare = memory_ + harness_page::kSpare * (kPage / 8);
  set_slot(kSpareSlot, harness_gpa(harness_page::kSpare), kPage, spare, 0);
  set_slot(kSpareSlot, harness_gpa(harness_page::kSpare), 0, spare, 0);
}

StubExit Vm::run(unsigned vcpu, const Call& call) {
  StubExit out;
  Cpu& cpu = cpus_[vcpu];
  kvm_run* run = cpu.run;
  kvm_regs& regs = run->s.regs.regs;
  regs = {};
  const unsigned code = call.cpl == 0 ? harness_page::kCode : harness_page::kUserCode;
  regs.rip = harness_linear(code) + offset_of(call.stub);
  regs.rsp = stack_top(vcpu);
  regs.rdi = call.rdi;
  regs.rsi = call.rsi;
  regs.rflags = kRflagsFixed | (call.ac ? kRflagsAc : 0);
  run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
  if (cpu.cpl != call.cpl) {
    set_ring(run->s.regs.sregs, call.cpl);
    run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
  }
  watchdog_.arm(run, kStepMilliseconds);
  run_to_out(cpu, out);
  watchdog_.disarm();
  cpu.cpl = run->s.regs.sregs.cs.selector & 3;
  out.rax = regs.rax;
  return out;
}

void Vm::run_to_out(Cpu& cpu, StubExit& out) {
  kvm_run* run = cpu.run;
  for (unsigned exits = 0; exits < kMaxExits; ++exits) {
    if (ioctl(cpu.fd, KVM_RUN, 0) != 0) {
      if (errno == EINTR && !watchdog_.fired()) continue;
      out.kind = errno == EINTR ? StubExit::Kind::kHang : StubExit::Kind::kBroken;
      out.why = std::string("KVM_RUN: ") + std::strerror(errno);
      return;
    }
    if (run->exit_reason == KVM_EXIT_MMIO) {
      answer_device(run, out.device);
      continue;
    }
    if (is_unemulated_int3(*run)) {
      out.kind = StubExit::Kind::kException;
      out.vector = kVectorBp;
      out.rip = run->s.regs.regs.rip + 1;
      const kvm_vcpu_events none{};  // KVM has queued a #UD
      ioctl(cpu.fd, KVM_SET_VCPU_EVENTS, &none);
      return;
    }
    if (run->exit_reason != KVM_EXIT_IO) {
      out.kind = StubExit::Kind::kBroken;
      out.shutdown = run->exit_reason == KVM_EXIT_SHUTDOWN;
      out.why = "KVM exit reason " + std::to_string(run->exit_reason);
      if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
        out.why += ", suberror " + std::to_string(run->internal.suberror);
      return;
    }
    if (run->io.port != TWINWALK_PORT_DONE) {
      out.kind = StubExit::Kind::kException;
      out.vector = run->io.port - TWINWALK_PORT_EXCEPTION;
      read_exception(static_cast<unsigned>(&cpu - cpus_.data()), out);
    }
    return;
  }
  out.kind = StubExit::Kind::kHang;
  out.why = "no end after " + std::to_string(kMaxExits) + " exits";
}

// The frame that the processor pushed on the IST stack: SS, RSP, RFLAGS, CS, RIP and perhaps the
// error code.
void Vm::read_exception(unsigned index, StubExit& out) {
  const std::uint64_t* top =
      harness_words(harness_page::kPerCpu + harness_page::kPagesPerCpu * index + 2);
  out.rip = top[-5];
  if (pushes_error_code(out.vector)) out.error_code = static_cast<std::uint32_t>(top[-6]);
  out.cr2 = cpus_[index].run->s.regs.sregs.cr2;
  if (out.vector == kVectorBp && is_in_user_code(out.rip)) out.kind = StubExit::Kind::kDone;
}

void Vm::set_paging(unsigned vcpu, std::uint64_t cr3, std::uint64_t cr4) {
  kvm_run* run = cpus_[vcpu].run;
  run->s.regs.sregs.cr3 = cr3;
  run->s.regs.sregs.cr4 = cr4;
  run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
}

std::uint64_t Vm::window(std::uint64_t gfn, bool pair) {
  for (unsigned i = 0; i < window_entries_; ++i) {
    if (window_[i].gfn == gfn && window_[i].pair == pair)
      return kWindowLinear + window_[i].page * kPage;
  }
  const unsigned pages = pair ? 2 : 1;
  if (window_used_ + pages > kWindowPages) return 0;
  const unsigned page = window_used_;
  window_[window_entries_++] = {gfn, pair, page};
  window_used_ += pages;
  std::uint64_t* entries = harness_words(harness_page::kWindowPt);
  for (unsigned i = 0; i < pages; ++i) {
    entries[page + i] = (gfn + i) << 12 | pte::kP | pte::kW | pte::kA | pte::kD;
  }
  return kWindowLinear + page * kPage;
}

std::uint64_t* Vm::invpcid_descriptor(unsigned vcpu) {
  return harness_words(harness_page::kPerCpu + harness_page::kPagesPerCpu * vcpu) +
         kInvpcidDescriptorOffset / 8;
}

std::uint64_t Vm::invpcid_linear(unsigned vcpu) {
  return harness_linear(harness_page::kPerCpu + harness_page::kPagesPerCpu * vcpu) +
         kInvpcidDescriptorOffset;
}

}  // namespace twinwalk::kvm
