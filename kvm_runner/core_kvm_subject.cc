#include "kvm_runner/core_kvm_subject.h"

#include <cstdlib>
#include <cstring>

#include "kvm_runner/layout.h"
#include "kvm_runner/step_limits.h"
#include "kvm_runner/subjects.h"

namespace twinwalk::kvm {
namespace {

// What the core does in software, on a host that has none of it.
constexpr std::uint32_t kCoreFeatures = feature::k1G | feature::kPge | feature::kPcid |
                                        feature::kInvpcid | feature::kPse | feature::kPse36 |
                                        feature::kPae;

mmu::VmConfig config_of(const Machine& m) {
  mmu::VmConfig config;
  mmu::Capabilities& caps = config.caps;
  caps.vendor = m.vendor == Vendor::kAmd ? mmu::Vendor::kAmd : mmu::Vendor::kIntel;
  caps.maxphyaddr = m.maxphyaddr;
  caps.host_maxphyaddr = m.host_maxphyaddr;
  caps.nx = m.has(feature::kNx);
  caps.gbpages = m.has(feature::k1G);
  caps.pge = m.has(feature::kPge);
  caps.pcid = m.has(feature::kPcid);
  caps.invpcid = m.has(feature::kInvpcid);
  caps.smep = m.has(feature::kSmep);
  caps.smap = m.has(feature::kSmap);
  caps.pku = m.has(feature::kPku);
  caps.la57 = m.has(feature::kLa57);
  caps.pse = m.has(feature::kPse);
  caps.pse36 = m.has(feature::kPse36);
  caps.pae = m.has(feature::kPae);
  mmu::Options& options = config.options;
  options.prefetch = (m.options & option::kNoPrefetch) == 0;
  options.unsync = (m.options & option::kNoUnsync) == 0;
  options.large_pages = (m.options & option::kNoLargePages) == 0;
  options.eager_sync = (m.options & option::kEagerSync) != 0;
  options.extra_flush = (m.options & option::kExtraFlush) != 0;
  options.extra_zap = (m.options & option::kExtraZap) != 0;
  config.vcpus = m.vcpus;
  if (m.quota != 0) config.quota = m.quota;
  return config;
}

Complaint complaint_of(mmu::AuditFinding::Class cls) {
  constexpr Complaint kByClass[] = {
      Complaint::kAuditRmap,     Complaint::kAuditParent,   Complaint::kAuditUnsync,
      Complaint::kAuditHash,     Complaint::kAuditCount,    Complaint::kAuditRole,
      Complaint::kAuditContent,  Complaint::kAuditReserved, Complaint::kAuditWritable,
      Complaint::kAuditNotifier, Complaint::kAuditDirty,    Complaint::kAuditLeak};
  const auto index = static_cast<std::size_t>(cls);
  return index < std::size(kByClass) ? kByClass[index] : Complaint::kTrap;
}

}  // namespace

CoreKvmSubject::~CoreKvmSubject() {
  vm_.reset();
  std::free(storage_);
}

bool CoreKvmSubject::open(std::string& why) {
  if (!host_.open(why) || !arena_.open(why)) return false;
  if ((host_.features() & feature::kNx) == 0) return why = "the host offers no NX", false;
  storage_ = std::aligned_alloc(64, (mmu::Vm::object_size() + 63) & ~mmu::u64{63});
  if (storage_ == nullptr) return why = "out of memory", false;
  info_ = {"core-kvm", "in-tree core on " + host_.version(), Profile::kKvm};
  return true;
}

// The processor of the VM: everything that the host has, MAXPHYADDR as the core believes, WP and
// NXE on.
bool CoreKvmSubject::start(const Program& program, std::string& why) {
  vm_.reset();
  machine_ = program.machine;
  arena_.reset();
  slots_.reset(machine_);
  lender_.reset();
  complaint_ = Complaint::kNone;
  if (machine_.host_maxphyaddr > host_.maxphyaddr())
    return why = "the host has a smaller MAXPHYADDR", false;
  if (machine_.core != Dimension::kShadow) return why = "the core only shadows here", false;
  Machine processor = machine_;
  processor.vendor = host_.vendor();  // the guest's vendor is the core's affair
  processor.maxphyaddr = machine_.host_maxphyaddr;
  processor.features = host_.features();
  Registers registers;
  registers.cr3 = CoreArena::kArenaBase;
  registers.cr4 = cr4::kPae | cr4::kPge;
  vm_ = Vm::create(host_, processor, registers, why);
  if (!vm_ ||
      vm_->set_slot(0, CoreArena::kArenaBase, CoreArena::kArenaBytes, arena_.memory(), 0) != 0)
    return false;
  for (unsigned v = 0; v < machine_.vcpus; ++v) loaded_cr3_[v] = loaded_pcid_[v] = 0;

  core_ = mmu::Vm::create(storage_, *this, config_of(machine_));
  if (core_ == nullptr) panic("no VM could be created");
  mmu::MemslotRequest request;
  request.pages = machine_.memory_bytes() / kPage;
  request.hva = mmu::Hva{kHvaBase};
  if (core_->set_memslot(request) != mmu::Status::kOk) panic("memslot 0 was refused");
  for (unsigned v = 0; v < machine_.vcpus; ++v) {
    Registers& r = registers_[v] = initial_registers(machine_);
    mmu::Vcpu& cpu = core_->vcpu(v);
    if (!cpu.set_efer(r.efer) || !cpu.set_cr4(r.cr4) || !cpu.set_cr3(r.cr3) ||
        !cpu.set_cr0(r.cr0)) {
      panic("the initial registers were refused");
    }
  }
  return true;
}

// A panic of the core leaves by longjmp: what it jumps over are frames of the core and of the
// steps, which own nothing that the next run does not clear.
void CoreKvmSubject::run(const Program& program, OutcomeStream& out) {
  out.clear();
  out.steps.resize(program.steps.size());
  current_ = 0;
  core_ = nullptr;
  complaint_text_.clear();
  if (setjmp(panicked_) != 0) {
    abandon(out);
    return;
  }
  image_valid_ = start(program, why_);
  if (!image_valid_) {
    for (Outcome& outcome : out.steps) skip(outcome, SkipReason::kHostLacksFeature);
    vm_.reset();
    return;
  }
  run_steps(program, out);
  finish(out);
}

void CoreKvmSubject::run_steps(const Program& program, OutcomeStream& out) {
  bool stopped = false;
  for (; current_ < program.steps.size(); ++current_) {
    Outcome& outcome = out.steps[current_];
    if (stopped) {
      skip(outcome, SkipReason::kSubjectStopped);
      continue;
    }
    step(program.steps[current_].what, outcome, out);
    stopped = outcome.kind == OutcomeKind::kSkip && outcome.reason == SkipReason::kSubjectStopped;
    if (!stopped) core_->audit(*this);
    collect(out, outcome);
  }
  if (stopped) image_valid_ = false;
}

void CoreKvmSubject::finish(OutcomeStream& out) {
  core_->destroy();
  core_ = nullptr;
  vm_.reset();
  if (arena_.live_tables() != 0)
    complain(Complaint::kAuditLeak, "page tables are left after the VM was destroyed");
  if (arena_.live_objects() != 0)
    complain(Complaint::kAuditLeak, "objects are left after the VM was destroyed");
  if (!out.steps.empty()) collect(out, out.steps.back());
}

void CoreKvmSubject::abandon(OutcomeStream& out) {
  core_ = nullptr;
  image_valid_ = false;
  vm_.reset();
  for (std::size_t i = current_; i < out.steps.size(); ++i)
    skip(out.steps[i], SkipReason::kSubjectStopped);
  if (!out.steps.empty())
    collect(out, out.steps[current_ < out.steps.size() ? current_ : out.steps.size() - 1]);
}

void CoreKvmSubject::complain(Complaint complaint, const char* text) {
  if (complaint_ != Complaint::kNone) return;
  complaint_ = complaint;
  complaint_text_ = text;
}

void CoreKvmSubject::collect(OutcomeStream& out, Outcome& outcome) {
  if (complaint_ == Complaint::kNone) return;
  if (outcome.complaint == Complaint::kNone) outcome.complaint = complaint_;
  if (out.complaint_text.empty()) out.complaint_text = complaint_text_;
  complaint_ = Complaint::kNone;
}

void CoreKvmSubject::skip(Outcome& out, SkipReason reason) {
  out = {};
  out.kind = OutcomeKind::kSkip;
  out.reason = reason;
}

// ---- steps

void CoreKvmSubject::step(const Op& op, Outcome& out, OutcomeStream& stream) {
  const unsigned known_vcpu = op.vcpu < machine_.vcpus ? op.vcpu : 0;
  const SkipReason reason =
      why_not(op, machine_, registers_[known_vcpu], host_.features() | kCoreFeatures);
  if (reason != SkipReason::kNone) return skip(out, reason);
  switch (op.verb) {
    case Verb::kMov:
      return mov(op, out);
    case Verb::kWrite:
      return op.writer() == Writer::kHost ? host_store(op, out) : guest_store(op, out);
    case Verb::kAccess:
      return access(op, out);
    case Verb::kInvlpg:
      return vcpu(op).invlpg(mmu::Gva{op.gva});
    case Verb::kInvpcid:
      if (!vcpu(op).invpcid(op.type, op.pcid, mmu::Gva{op.gva})) out.kind = OutcomeKind::kGp;
      return;
    case Verb::kSlotAdd:
    case Verb::kSlotDelete:
    case Verb::kSlotMove:
    case Verb::kSlotFlags:
      return change_slot(op, out);
    case Verb::kInvalidate:
    case Verb::kRemap:
    case Verb::kProtect:
    case Verb::kAge:
      return change_backing(op, out);
    case Verb::kDirtyGet:
      return dirty_get(op, out, stream);
    case Verb::kReclaim:
      core_->reclaim(op.pages);
      return;
    case Verb::kZapAll:
      return core_->zap_all();
    case Verb::kQuota:
      if (op.pages != 0 && op.pages < 8) {
        out.kind = OutcomeKind::kRefused;
      } else {
        core_->set_quota(op.pages != 0 ? static_cast<mmu::u32>(op.pages) : mmu::kDefaultQuota);
      }
      return;
    default:  // failure injection and huge host pages belong to the simulated host
      return skip(out, SkipReason::kHostLacksFeature);
  }
}

bool CoreKvmSubject::write_register(const Op& op) {
  mmu::Vcpu& cpu = vcpu(op);
  switch (op.reg()) {
    case Reg::kCr0:
      return cpu.set_cr0(op.value);
    case Reg::kCr3:
      return cpu.set_cr3(op.value);
    case Reg::kCr4:
      return cpu.set_cr4(op.value);
    case Reg::kEfer:
      return cpu.set_efer(op.value);
    case Reg::kPkru:
      cpu.set_pkru(static_cast<mmu::u32>(op.value));
      return true;
    case Reg::kCpl:
      cpu.set_cpl(op.value == 3 ? 3 : 0);
      return true;
    case Reg::kAc:
      cpu.set_ac(op.value != 0);
      return true;
  }
  return false;
}

void CoreKvmSubject::mov(const Op& op, Outcome& out) {
  if (!write_register(op)) {
    out.kind = OutcomeKind::kGp;
    return;
  }
  Registers& r = registers_[op.vcpu];
  adopt_register(op, r);
  r.cr3 = vcpu(op).cr3();
}

void CoreKvmSubject::guest_store(const Op& op, Outcome& out) {
  const mmu::EmulateResult r =
      vcpu(op).write_physical(mmu::Gpa{op.gpa}, static_cast<unsigned>(op.size), op.value);
  if (r.kind == mmu::EmulateResult::Kind::kDone) return;
  if (r.kind != mmu::EmulateResult::Kind::kMmio) {
    complain(Complaint::kLiveness, "the emulated store does not complete");
    return skip(out, SkipReason::kSubjectStopped);
  }
  out.kind = OutcomeKind::kMmio;
  out.write = true;
  out.gpa[0] = r.gpa.raw;
}

bool CoreKvmSubject::read_word(std::uint64_t gpa, std::uint64_t& word) const {
  const Slot* slot = slots_.find(gpa);
  if (slot == nullptr) return false;
  word = arena_.word(slot->offset + (gpa - slot->gpa));
  return true;
}

// ---- mmu::Platform

bool CoreKvmSubject::alloc_table(mmu::Hpa& hpa, mmu::u64*& ptr) {
  std::uint64_t at = 0;
  ptr = arena_.alloc_table(at);
  hpa = mmu::Hpa{at};
  return ptr != nullptr;
}

void CoreKvmSubject::free_table(mmu::Hpa hpa) {
  if (!arena_.free_table(hpa.raw)) panic("free_table of something that is no live table");
}

void* CoreKvmSubject::alloc_object(mmu::u64 size) { return arena_.alloc_object(size); }

void CoreKvmSubject::free_object(void* object, mmu::u64 size) {
  if (!arena_.free_object(object, size))
    panic("free_object of something that is no live object of that size");
}

mmu::u64 CoreKvmSubject::read_guest(mmu::Hpa hpa, unsigned size) {
  mmu::u64 value = 0;
  if (!arena_.is_guest(hpa.raw, size)) {
    complain(Complaint::kEscape, "the core read a frame that is not the guest's");
    return 0;
  }
  std::memcpy(&value, arena_.frame_at(hpa.raw), size);
  return value;
}

void CoreKvmSubject::write_guest(mmu::Hpa hpa, unsigned size, mmu::u64 value) {
  if (!arena_.is_guest(hpa.raw, size))
    return complain(Complaint::kEscape, "the core wrote a frame that is not the guest's");
  std::memcpy(arena_.frame_at(hpa.raw), &value, size);
}

bool CoreKvmSubject::cmpxchg_guest(mmu::Hpa hpa, unsigned size, mmu::u64 expected,
                                   mmu::u64 desired) {
  if (read_guest(hpa, size) != expected) return false;
  write_guest(hpa, size, desired);
  return true;
}

mmu::FrameLookup CoreKvmSubject::lookup_frame(mmu::Hva hva, bool write) {
  mmu::FrameLookup found;
  const std::uint64_t offset = hva.raw - kHvaBase;
  if (hva.raw < kHvaBase || offset >= std::uint64_t{4} << 30) return found;
  if (write) break_share(offset);
  const std::uint64_t hpa = arena_.frame_of(offset);
  if (hpa == 0) return found;
  found.kind = mmu::FrameLookup::Kind::kFrame;
  found.pfn = mmu::Pfn{hpa / kPage};
  found.writable = !arena_.is_shared(offset);
  return found;
}

void CoreKvmSubject::flush_tlb(const mmu::FlushRequest& request) {
  (void)request;
  vm_->zap_translations();
  for (unsigned v = 0; v < machine_.vcpus; ++v)
    loaded_cr3_[v] = 0;  // the next entry flushes before it runs
}

void CoreKvmSubject::panic(const char* why) {
  complain(Complaint::kTrap, why);
  std::longjmp(panicked_, 1);
}

void CoreKvmSubject::on_finding(const mmu::AuditFinding& finding) {
  complain(complaint_of(finding.cls), finding.what);
}

}  // namespace twinwalk::kvm

namespace twinwalk {

std::unique_ptr<Subject> make_core_kvm_subject(std::string& why) {
  auto subject = std::make_unique<kvm::CoreKvmSubject>();
  if (!subject->open(why)) return nullptr;
  return subject;
}

}  // namespace twinwalk
