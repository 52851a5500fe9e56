#include "kvm_runner/vm.h"

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "harness/trace/content.h"
#include "kvm_runner/harness_image.h"
#include "kvm_runner/kvm_abi.h"
#include "kvm_runner/payload/payload32.h"
#include "kvm_runner/payload/ports.h"

namespace twinwalk::kvm {
namespace {

constexpr unsigned kMaxExits = 64;  // an access splits into a few exits at most
constexpr std::uint32_t kMostRingBytes = 64 << 10;

// KVM gave up on INT3 at CPL 0, which the word that a fetch finds ends with: arriving there is all
// that was asked.
bool is_unemulated_int3(const kvm_run& run) {
  const auto& failure = run.emulation_failure;
  return run.exit_reason == KVM_EXIT_INTERNAL_ERROR &&
         failure.suberror == KVM_INTERNAL_ERROR_EMULATION && failure.ndata >= 3 &&
         (failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) != 0 &&
         failure.insn_size > 0 && failure.insn_bytes[0] == 0xcc;
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

LogKind log_kind_of(const Machine& machine) {
  if ((machine.options & option::kDirtyRing) != 0) return LogKind::kRing;
  return (machine.options & option::kManualClear) != 0 ? LogKind::kManual : LogKind::kBitmap;
}

Vm::~Vm() {
  for (Cpu& cpu : cpus_) remove(cpu);
  if (fd_ >= 0) close(fd_);
  if (memory_ != nullptr) munmap(memory_, harness_page::kCount * kPage);
}

void Vm::remove(Cpu& cpu) {
  if (cpu.run != nullptr) munmap(cpu.run, run_bytes_);
  if (cpu.fd >= 0) close(cpu.fd);
  cpu = {};
}

std::unique_ptr<Vm> Vm::create(const Host& host, const Machine& machine, const Layout& layout,
                               const Registers& registers, std::string& why) {
  std::unique_ptr<Vm> vm(new Vm);
  vm->svm_ = host.vendor() == Vendor::kAmd;
  const auto refuse = [&](const char* what) {
    why = std::string(what) + ": " + std::strerror(errno);
    return nullptr;
  };
  vm->fd_ = ioctl(host.fd(), KVM_CREATE_VM, 0);
  if (vm->fd_ < 0) return refuse("KVM_CREATE_VM");
  vm->choose_log(machine);
  const int bytes = ioctl(host.fd(), KVM_GET_VCPU_MMAP_SIZE, 0);
  if (bytes < 0) return refuse("KVM_GET_VCPU_MMAP_SIZE");
  vm->run_bytes_ = static_cast<std::size_t>(bytes);
  const std::size_t harness_bytes = harness_page::kCount * kPage;
  void* memory =
      mmap(nullptr, harness_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return refuse("mmap");
  vm->memory_ = static_cast<std::uint64_t*>(memory);
  vm->vcpus_ = machine.vcpus;
  if (!vm->add_harness(layout)) return refuse("KVM_SET_USER_MEMORY_REGION");
  for (unsigned i = 0; i < machine.vcpus; ++i) {
    if (!vm->add_vcpu(host, machine, registers, i, why)) return nullptr;
  }
  return vm;
}

// In memory that is all zeroes. False, and errno, if KVM refuses its memslot.
bool Vm::add_harness(const Layout& layout) {
  layout_ = layout;
  window_entries_ = window_used_ = 0;
  build_harness_image(layout, memory_, vcpus_);
  errno = set_slot(kHarnessSlot, layout.base, harness_page::kSpare * kPage, memory_, 0);
  return errno == 0;
}

void Vm::drop_memslots() {
  empty_rings();
  dirty_.clear();
  for (unsigned id = 0; memslots_ >> id != 0; ++id) {
    if ((memslots_ >> id & 1) != 0) set_slot(id, 0, 0, nullptr, 0);
  }
}

bool Vm::begin_again(const Layout& layout, const Registers& registers, std::string& why) {
  std::memset(memory_, 0, harness_page::kCount * kPage);
  if (!add_harness(layout)) return why = std::strerror(errno), false;
  for (unsigned i = 0; i < vcpus_; ++i) {
    const kvm_vcpu_events none{};
    Cpu& cpu = cpus_[i];
    cpu.run->s.regs.sregs = cpu.initial_sregs;
    if (twinwalk_kvm_set_xsave(cpu.fd, cpu.initial_fpu.data()) != 0 ||
        ioctl(cpu.fd, KVM_SET_VCPU_EVENTS, &none) != 0)
      return why = "the vCPU's former state stays", false;
    if (!start_vcpu(i, registers, why)) return false;
  }
  return true;
}

bool Vm::add_vcpu(const Host& host, const Machine& machine, const Registers& registers,
                  unsigned index, std::string& why) {
  const auto refuse = [&](const char* what) {
    why = std::string(what) + ": " + std::strerror(errno);
    return false;
  };
  Cpu& cpu = cpus_[index];
  cpu.fd = ioctl(fd_, KVM_CREATE_VCPU, vcpus_ever_);
  if (cpu.fd < 0) return refuse("KVM_CREATE_VCPU");
  ++vcpus_ever_;
  void* run = mmap(nullptr, run_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, cpu.fd, 0);
  if (run == MAP_FAILED) return refuse("mmap of the vCPU");
  cpu.run = static_cast<kvm_run*>(run);
  if (ring_bytes_ != 0 && !cpu.ring.map(cpu.fd, ring_bytes_)) return refuse("mmap of the ring");
  const auto cpuid = host.cpuid_for(machine);
  errno = -twinwalk_kvm_set_cpuid(cpu.fd, cpuid.data(), static_cast<unsigned>(cpuid.size()));
  if (errno != 0) return refuse("KVM_SET_CPUID2");
  if (ioctl(cpu.fd, KVM_GET_SREGS, &cpu.initial_sregs) != 0) return refuse("KVM_GET_SREGS");
  errno = -twinwalk_kvm_get_xsave(cpu.fd, cpu.initial_fpu.data());
  if (errno != 0) return refuse("KVM_GET_XSAVE");
  cpu.run->s.regs.sregs = cpu.initial_sregs;
  return start_vcpu(index, registers, why);
}

bool Vm::start_vcpu(unsigned index, const Registers& registers, std::string& why) {
  errno = set_registers(index, registers);
  if (errno != 0) return why = std::string("KVM_SET_SREGS: ") + std::strerror(errno), false;
  cpus_[index].run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
  return true;
}

void Vm::set_nmi(unsigned vcpu, bool pending) {
  kvm_vcpu_events events{};
  events.flags = KVM_VCPUEVENT_VALID_NMI_PENDING;
  events.nmi.pending = pending;
  ioctl(cpus_[vcpu].fd, KVM_SET_VCPU_EVENTS, &events);
}

void Vm::set_task(unsigned vcpu, bool long_mode) {
  kvm_sregs wanted{};
  set_descriptor_registers(layout_, long_mode, wanted, vcpu);
  kvm_run* run = cpus_[vcpu].run;
  if (run->s.regs.sregs.tr.base == wanted.tr.base) return;
  run->s.regs.sregs.tr = wanted.tr;
  if (!long_mode) run->s.regs.sregs.tr.type = kAvailableTss;
  run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
}

bool Vm::renew_vcpu(const Host& host, const Machine& machine, const Registers& registers,
                    unsigned index, std::string& why) {
  empty_rings();
  Cpu old = std::exchange(cpus_[index], {});
  if (add_vcpu(host, machine, registers, index, why)) return remove(old), true;
  remove(cpus_[index]);
  cpus_[index] = std::move(old);
  return false;
}

int Vm::set_registers(unsigned vcpu, const Registers& registers) {
  Cpu& cpu = cpus_[vcpu];
  kvm_sregs sregs = cpu.run->s.regs.sregs;
  sregs.cr0 = registers.cr0 | ((registers.cr0 & cr0::kPg) == 0 ? cr0::kPe : 0);
  sregs.cr4 = registers.cr4;
  sregs.efer = registers.efer;
  const bool long_mode = (registers.cr0 & cr0::kPg) != 0 && (registers.efer & efer::kLme) != 0;
  // Outside IA-32e mode the register's upper half does not count (SDM 3A §"PAE Paging"); KVM, which
  // no guest can bring there, looks for a root where all of it says.
  sregs.cr3 = long_mode ? registers.cr3 : registers.cr3 & 0xffff'ffff;
  set_descriptor_registers(layout_, long_mode, sregs, vcpu);
  // SVM checks no type here (APM 2 §"Canonicalization and Consistency Checks"), and QEMU's
  // translator, emulating it, ends itself at an exception in CPL 3 of 32-bit code if the TSS is
  // busy.
  if (!long_mode && svm_) sregs.tr.type = kAvailableTss;
  if (ioctl(cpu.fd, KVM_SET_SREGS, &sregs) != 0) return errno;
  cpu.run->s.regs.sregs = sregs;
  cpu.long_mode = long_mode;
  cpu.cpl = 0;
  return 0;
}

bool Vm::get_pdptes(unsigned vcpu, std::array<std::uint64_t, 4>& pdptes) const {
  kvm_sregs2 sregs;
  if (ioctl(cpus_[vcpu].fd, KVM_GET_SREGS2, &sregs) != 0) return false;
  if ((sregs.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID) == 0) return false;
  std::copy(std::begin(sregs.pdptrs), std::end(sregs.pdptrs), pdptes.begin());
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
  if (ioctl(fd_, KVM_SET_USER_MEMORY_REGION, &region) != 0) return errno;
  memslots_ = bytes == 0 ? memslots_ & ~bit(id) : memslots_ | bit(id);
  return 0;
}

int Vm::dirty_log(unsigned id, std::uint64_t* bitmap) {
  kvm_dirty_log log{};
  log.slot = id;
  log.dirty_bitmap = bitmap;
  return ioctl(fd_, KVM_GET_DIRTY_LOG, &log) == 0 ? 0 : errno;
}

int Vm::allow_vmrun(unsigned vcpu) {
  constexpr std::uint32_t kHostSaveAddress = 0xc001'0117;  // VM_HSAVE_PA
  return -twinwalk_kvm_set_msr(cpus_[vcpu].fd, kHostSaveAddress,
                               layout_.gpa(harness_page::kHostSave + vcpu));
}

int Vm::clear_dirty_log(unsigned id, std::uint64_t first, std::uint64_t pages,
                        std::uint64_t* bitmap) {
  kvm_clear_dirty_log log{};
  log.slot = id;
  log.first_page = first;
  log.num_pages = static_cast<std::uint32_t>(pages);
  log.dirty_bitmap = bitmap;
  return ioctl(fd_, KVM_CLEAR_DIRTY_LOG, &log) == 0 ? 0 : errno;
}

bool Vm::enable(std::uint32_t capability, std::uint64_t argument) const {
  kvm_enable_cap cap{};
  cap.cap = capability;
  cap.args[0] = argument;
  return ioctl(fd_, KVM_ENABLE_CAP, &cap) == 0;
}

// Before there is a vCPU.
void Vm::choose_log(const Machine& machine) {
  const auto offered = [&](std::uint32_t capability) {
    return static_cast<std::uint32_t>(std::max(ioctl(fd_, KVM_CHECK_EXTENSION, capability), 0));
  };
  switch (log_kind_of(machine)) {
    case LogKind::kBitmap:
      return;
    case LogKind::kManual: {
      const std::uint32_t flags =
          KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE |
          ((machine.options & option::kInitiallySet) != 0 ? KVM_DIRTY_LOG_INITIALLY_SET : 0);
      const bool has = (offered(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) & flags) == flags;
      if (has && enable(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, flags)) log_kind_ = LogKind::kManual;
      return;
    }
    case LogKind::kRing: {
      // The smallest that KVM takes, so that a trace may fill it: it keeps places of its own, more
      // of them where the processor logs.
      const std::uint32_t most = offered(KVM_CAP_DIRTY_LOG_RING);
      for (std::uint32_t bytes = kPage; bytes <= std::min(most, kMostRingBytes); bytes *= 2) {
        if (!enable(KVM_CAP_DIRTY_LOG_RING, bytes)) continue;
        ring_bytes_ = bytes;
        log_kind_ = LogKind::kRing;
        return;
      }
      return;
    }
  }
}

unsigned Vm::empty_rings() {
  if (log_kind_ != LogKind::kRing) return 0;
  unsigned taken = 0;
  for (unsigned i = 0; i < vcpus_; ++i) taken += cpus_[i].ring.take(dirty_);
  if (taken != 0) ioctl(fd_, KVM_RESET_DIRTY_RINGS, 0);
  return taken;
}

void Vm::take_dirty_rings(std::vector<DirtyPage>& pages) {
  empty_rings();
  pages.insert(pages.end(), dirty_.begin(), dirty_.end());
  dirty_.clear();
}

void Vm::zap_translations() {
  void* spare = memory_ + harness_page::kSpare * (kPage / 8);
  set_slot(kSpareSlot, layout_.gpa(harness_page::kSpare), kPage, spare, 0);
  set_slot(kSpareSlot, layout_.gpa(harness_page::kSpare), 0, spare, 0);
}

void Vm::begin_64(unsigned index, const Call& call) {
  Cpu& cpu = cpus_[index];
  kvm_regs& regs = cpu.run->s.regs.regs;
  const unsigned code = call.cpl == 0 ? harness_page::kCode : harness_page::kUserCode;
  regs.rip = layout_.linear(true, code) + offset_of(call.stub);
  regs.rsp = stack_top(layout_, true, index);
  regs.rdi = call.rdi;
  regs.rsi = call.rsi;
  regs.r8 = layout_.gpa(harness_page::kVmcb + index);
  regs.rflags = kRflagsFixed | (call.ac ? kRflagsAc : 0);
  if (cpu.cpl == call.cpl) return;
  set_ring(cpu.run->s.regs.sregs, call.cpl);
  cpu.run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
}

// To CPL 3 by IRET: setting the segment registers from outside would load the PDPTEs again.
void Vm::begin_32(unsigned index, const Call& call) {
  kvm_regs& regs = cpus_[index].run->s.regs.regs;
  const auto high = [](std::uint64_t value) { return value >> 32; };
  const std::uint64_t stub = offset_of_32(call.stub);
  regs.rdi = static_cast<std::uint32_t>(call.rdi);
  regs.rbx = high(call.rdi);
  regs.rsi = static_cast<std::uint32_t>(call.rsi);
  regs.rdx = high(call.rsi);
  regs.rsp = stack_top(layout_, false, index);
  const std::uint64_t flags = kRflagsFixed | (call.ac ? kRflagsAc : 0);
  regs.rflags = flags;
  regs.rip = layout_.linear(false, harness_page::kCode32) + stub;
  if (call.cpl == 0) return;
  const UserFrame32 frame =
      user_frame_32(layout_.linear(false, harness_page::kUserCode32) + stub, flags);
  regs.rflags = kRflagsFixed;
  regs.rip = layout_.linear(false, harness_page::kCode32) + offset_of_to_user_32();
  regs.rsp -= sizeof(frame);
  const unsigned stack = harness_page::kPerCpu + harness_page::kPagesPerCpu * index + 1;
  std::memcpy(reinterpret_cast<unsigned char*>(harness_words(stack + 1)) - sizeof(frame), &frame,
              sizeof(frame));
}

StubExit Vm::run(unsigned vcpu, const Call& call) {
  StubExit out;
  Cpu& cpu = cpus_[vcpu];
  kvm_run* run = cpu.run;
  kvm_regs& regs = run->s.regs.regs;
  regs = {};
  if (cpu.long_mode) {
    begin_64(vcpu, call);
  } else {
    begin_32(vcpu, call);
  }
  run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
  watchdog_.arm(run, kStepMilliseconds);
  run_to_out(cpu, out);
  watchdog_.disarm();
  cpu.cpl = run->s.regs.sregs.cs.selector & 3;
  out.rax = cpu.long_mode ? regs.rax : (regs.rax & 0xffff'ffff) | regs.rdx << 32;
  return out;
}

void Vm::run_to_out(Cpu& cpu, StubExit& out, std::vector<StubExit>* batch) {
  kvm_run* run = cpu.run;
  const unsigned most = batch == nullptr ? kMaxExits : kMaxExits * kMostBatched;
  for (unsigned exits = 0; exits < most; ++exits) {
    if (ioctl(cpu.fd, KVM_RUN, 0) != 0) {
      if (errno == EINTR && !watchdog_.fired()) continue;
      out.kind = errno == EINTR ? StubExit::Kind::kHang : StubExit::Kind::kBroken;
      out.why = std::string("KVM_RUN: ") + std::strerror(errno);
      return;
    }
    if (run->exit_reason == KVM_EXIT_MMIO) {
      const std::size_t current = batch != nullptr ? batch_page().context.current : 0;
      answer_device(
          run, batch != nullptr && current < batch->size() ? (*batch)[current].device : out.device);
      continue;
    }
    if (run->exit_reason == KVM_EXIT_DIRTY_RING_FULL && empty_rings() != 0) continue;
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
      char at[32];
      std::snprintf(at, sizeof(at), ", rip %#llx", run->s.regs.regs.rip);
      out.why = "KVM exit reason " + std::to_string(run->exit_reason) + at;
      if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
        out.why += ", suberror " + std::to_string(run->internal.suberror);
      return;
    }
    if (run->io.port == TWINWALK_PORT_LEFT_GUEST) {
      out.kind = StubExit::Kind::kLeftGuest;
    } else if (run->io.port != TWINWALK_PORT_DONE) {
      out.kind = StubExit::Kind::kException;
      out.vector = run->io.port - TWINWALK_PORT_EXCEPTION;
      read_exception(static_cast<unsigned>(&cpu - cpus_.data()), out);
    }
    return;
  }
  out.kind = StubExit::Kind::kHang;
  out.why = "no end after " + std::to_string(most) + " exits";
}

bool Vm::is_in_user_code(const Cpu& cpu, std::uint64_t rip) const {
  const unsigned page = cpu.long_mode ? harness_page::kUserCode : harness_page::kUserCode32;
  return rip - layout_.linear(cpu.long_mode, page) < kPage;
}

// The frame that the processor pushed: RIP, and below it perhaps the error code. In 64-bit mode it
// ends at the top of the IST stack, and always has SS, RSP, RFLAGS and CS, too; in 32-bit mode it
// is where ESP points to.
void Vm::read_exception(unsigned index, StubExit& out) {
  const Cpu& cpu = cpus_[index];
  const unsigned page = harness_page::kPerCpu + harness_page::kPagesPerCpu * index + 1;
  const bool has_code = pushes_error_code(out.vector);
  if (cpu.long_mode) {
    const std::uint64_t* top = harness_words(page + 1);
    out.rip = top[-5];
    if (has_code) out.error_code = static_cast<std::uint32_t>(top[-6]);
  } else {
    std::uint32_t frame[2];
    const std::uint64_t at = cpu.run->s.regs.regs.rsp & (kPage - sizeof(std::uint32_t));
    if (at + sizeof(frame) > kPage) {
      out.kind = StubExit::Kind::kBroken;
      out.why = "an exception without a frame";
      return;
    }
    std::memcpy(frame, reinterpret_cast<unsigned char*>(harness_words(page)) + at, sizeof(frame));
    out.rip = frame[has_code ? 1 : 0];
    if (has_code) out.error_code = frame[0];
  }
  out.cr2 = cpu.run->s.regs.sregs.cr2;
  if (out.vector == kVectorBp && is_in_user_code(cpu, out.rip)) out.kind = StubExit::Kind::kDone;
}

void Vm::set_paging(unsigned vcpu, std::uint64_t cr3, std::uint64_t cr4) {
  kvm_run* run = cpus_[vcpu].run;
  run->s.regs.sregs.cr3 = cr3;
  run->s.regs.sregs.cr4 = cr4;
  run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
}

std::uint64_t Vm::window(Mode mode, std::uint64_t gfn, bool pair, bool reads) {
  const unsigned pages = pair ? 2 : 1;
  const auto linear = [&](unsigned page) -> std::uint64_t {
    const bool long_mode = mode == Mode::k4Level || mode == Mode::k5Level;
    const bool reached = mode != Mode::k32Bit || (page + pages <= kWindowPages32 && gfn >> 20 == 0);
    return reached ? layout_.linear(long_mode, page) + kWindowOffset : 0;
  };
  for (unsigned i = 0; i < window_entries_; ++i) {
    if (window_[i].gfn == gfn && window_[i].pair == pair && window_[i].reads == reads)
      return linear(window_[i].page);
  }
  if (window_used_ + pages > kWindowPages) return 0;
  const unsigned page = window_used_;
  window_[window_entries_++] = {gfn, pair, reads, page};
  window_used_ += pages;
  std::uint64_t* entries = harness_words(harness_page::kWindowPt);
  auto* entries32 =
      reinterpret_cast<std::uint32_t*>(harness_words(harness_page::kPt32)) + kWindowOffset / kPage;
  for (unsigned i = page; i < page + pages; ++i) {
    const std::uint64_t frame = gfn + (i - page);
    entries[i] = frame << 12 | pte::kP | pte::kA | (reads ? 0 : pte::kW | pte::kD);
    if (i < kWindowPages32 && frame >> 20 == 0)
      entries32[i] = static_cast<std::uint32_t>(entries[i]);
  }
  return linear(page);
}

std::uint64_t* Vm::invpcid_descriptor(unsigned vcpu) {
  return harness_words(harness_page::kPerCpu + harness_page::kPagesPerCpu * vcpu) +
         kInvpcidDescriptorOffset / 8;
}

std::uint64_t Vm::invpcid_linear(unsigned vcpu) const {
  return layout_.linear(cpus_[vcpu].long_mode,
                        harness_page::kPerCpu + harness_page::kPagesPerCpu * vcpu) +
         kInvpcidDescriptorOffset;
}

}  // namespace twinwalk::kvm
