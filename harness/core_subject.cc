#include "harness/core_subject.h"

#include <csetjmp>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include "harness/guest_view.h"
#include "harness/host_memory.h"
#include "harness/object_pool.h"
#include "harness/processor/processor.h"
#include "mmu_core/counters.h"
#include "mmu_core/mmu.h"

namespace twinwalk {
namespace {

using mmu::Gpa;
using mmu::Gva;
using mmu::Hva;

constexpr std::uint64_t kPage = 4096;
// Injected allocation failures that one trace can make the core retry through; the host finds
// memory after that.
constexpr unsigned kMostFailures = 256;

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
  options.prefetch = !(m.options & option::kNoPrefetch);
  options.unsync = !(m.options & option::kNoUnsync);
  options.large_pages = !(m.options & option::kNoLargePages);
  options.eager_sync = m.options & option::kEagerSync;
  options.extra_flush = m.options & option::kExtraFlush;
  options.extra_zap = m.options & option::kExtraZap;
  config.vcpus = m.vcpus;
  if (m.quota) config.quota = m.quota;
  return config;
}

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

// A panic of the core ends the run by longjmp from Platform::panic to run(). What is skipped are
// frames of the core and of this adapter, none of which owns anything: the VM lives in storage and
// pools that the next run clears.
class CoreSubject final : public Subject, public mmu::Platform, public mmu::AuditSink {
 public:
  explicit CoreSubject(CoreSubjectOptions options)
      : options_(options),
        processor_(memory_),
        view_(memory_),
        storage_(std::aligned_alloc(64, (mmu::Vm::object_size() + 63) & ~std::uint64_t{63})) {
    if (!storage_) throw std::bad_alloc();
    info_.name = "core";
    info_.version = "in-tree";
  }
  ~CoreSubject() { std::free(storage_); }
  CoreSubject(const CoreSubject&) = delete;
  CoreSubject& operator=(const CoreSubject&) = delete;

  // ---- Subject
  const SubjectInfo& info() const override { return info_; }
  void run(const Program& program, OutcomeStream& out) override;
  bool read_image(std::uint64_t gpa, std::uint64_t& word) const override {
    return view_.read(gpa, word);
  }

  // ---- mmu::Platform
  bool alloc_table(mmu::Hpa& hpa, mmu::u64*& ptr) override;
  void free_table(mmu::Hpa hpa) override { memory_.free_table(hpa.raw); }
  void* alloc_object(mmu::u64 size) override { return objects_.allocate(size); }
  void free_object(void* object, mmu::u64 size) override {
    if (!objects_.release(object, size))
      panic("free_object of something that is no live object of that size");
  }
  mmu::u64 read_guest(mmu::Hpa hpa, unsigned size) override { return memory_.load(hpa.raw, size); }
  void write_guest(mmu::Hpa hpa, unsigned size, mmu::u64 value) override {
    memory_.store(hpa.raw, size, value);
  }
  bool cmpxchg_guest(mmu::Hpa hpa, unsigned size, mmu::u64 expected, mmu::u64 desired) override {
    return memory_.compare_exchange(hpa.raw, size, expected, desired);
  }
  mmu::FrameLookup lookup_frame(Hva hva, bool write) override;
  void flush_tlb(const mmu::FlushRequest& request) override;
  void lock(mmu::LockId id) override;
  void unlock(mmu::LockId id) override;
  [[noreturn]] void panic(const char* why) override {
    complain(Complaint::kTrap, why);
    std::longjmp(panicked_, 1);
  }

  // ---- mmu::AuditSink
  void on_finding(const mmu::AuditFinding& finding) override;

 private:
  void start(const Program& program);
  void run_steps(const Program& program, OutcomeStream& out);
  void finish();
  void abandon(OutcomeStream& out);
  void complain(Complaint complaint, std::string text);
  void collect_complaints(OutcomeStream& out, Outcome& outcome);

  void execute(const Op& op, Outcome& out, OutcomeStream& stream);
  SkipReason unsupported(const Op& op) const;
  void mov(const Op& op, Outcome& out);
  void set_cpl(unsigned vcpu, std::uint8_t cpl);
  void access(const Op& op, Outcome& out);
  void try_access(const Op& op, Outcome& out);
  bool handle_fault(const Op& op, const processor::Result& fault, Outcome& out);
  bool emulate(const Op& op, Outcome& out);
  void done_natively(const Op& op, const processor::Result& result, Outcome& out);
  void page_fault(std::uint32_t error_code, std::uint64_t cr2, Outcome& out);
  void mmio(const Op& op, std::uint64_t gpa, Outcome& out);
  bool crosses(const Op& op) const {
    return op.access() != AccessKind::kFetch && (op.gva & (kPage - 1)) + op.size > kPage;
  }
  void write(const Op& op, Outcome& out);
  void host_write(const Op& op, Outcome& out);
  void break_cow(std::uint64_t hva);
  void slot(const Op& op, Outcome& out);
  void host_range(const Op& op, Outcome& out);
  void huge(const Op& op, Outcome& out);
  void dirty_get(const Op& op, Outcome& out, OutcomeStream& stream);
  bool memory_comes_back();

  mmu::Vcpu& vcpu(const Op& op) { return vm_->vcpu(op.vcpu); }

  const CoreSubjectOptions options_;
  SubjectInfo info_;
  HostMemory memory_;
  ObjectPool objects_;
  processor::Processor processor_;
  GuestView view_;
  void* storage_;
  mmu::Vm* vm_ = nullptr;
  Machine machine_;
  Registers registers_[kMaxVcpus];  // cpl, ac and pkru as the processor has them; cr3 for walks of
                                    // our own
  bool exited_ = false;             // the core ran since the last audit
  bool locked_[2] = {};
  std::uint64_t fail_after_ = 0, fail_count_ = 0;
  unsigned failures_ = 0, failures_seen_ = 0;
  std::size_t current_ = 0;  // step
  std::jmp_buf panicked_;
  Complaint complaint_ = Complaint::kNone;
  std::string complaint_text_;
  std::vector<std::uint64_t> bitmap_;
};

// ---- a run

void CoreSubject::run(const Program& program, OutcomeStream& out) {
  out.clear();
  out.steps.resize(program.steps.size());
  current_ = 0;
  if (setjmp(panicked_) != 0) {
    abandon(out);
    return;
  }
  start(program);
  run_steps(program, out);
  if (!vm_) return;
  finish();
  if (!out.steps.empty()) collect_complaints(out, out.steps.back());
}

void CoreSubject::start(const Program& program) {
  machine_ = program.machine;
  memory_.reset(machine_.host_page_level);
  objects_.reset();
  processor_.reset(machine_);
  view_.reset(machine_.memory_bytes());
  locked_[0] = locked_[1] = false;
  fail_after_ = fail_count_ = 0;
  failures_ = failures_seen_ = 0;
  complaint_ = Complaint::kNone;
  exited_ = true;
  vm_ = mmu::Vm::create(storage_, *this, config_of(machine_));
  if (!vm_) panic("no VM could be created");
  vm_->set_state_counters(options_.state_counters);
  mmu::MemslotRequest request;
  request.pages = machine_.memory_bytes() / kPage;
  request.hva = Hva{kHvaBase};
  if (vm_->set_memslot(request) != mmu::Status::kOk) panic("memslot 0 was refused");
  for (unsigned v = 0; v < machine_.vcpus; ++v) {
    Registers& r = registers_[v];
    r = initial_registers(machine_);
    mmu::Vcpu& cpu = vm_->vcpu(v);
    if (!cpu.set_efer(r.efer) || !cpu.set_cr4(r.cr4) || !cpu.set_cr3(r.cr3) ||
        !cpu.set_cr0(r.cr0)) {
      panic("the initial registers were refused");
    }
  }
}

void CoreSubject::run_steps(const Program& program, OutcomeStream& out) {
  for (; current_ < program.steps.size(); ++current_) {
    Outcome& outcome = out.steps[current_];
    execute(program.steps[current_].what, outcome, out);
    if (options_.audit && exited_) vm_->audit(*this);
    exited_ = false;
    collect_complaints(out, outcome);
  }
}

// Tear-down, and what it leaves behind.
void CoreSubject::finish() {
  processor_.flush({});  // no vCPU runs any more
  vm_->destroy();
  vm_ = nullptr;
  if (memory_.live_tables())
    complain(Complaint::kAuditLeak, "page tables are left after the VM was destroyed");
  if (objects_.live())
    complain(Complaint::kAuditLeak, "objects are left after the VM was destroyed");
}

void CoreSubject::abandon(OutcomeStream& out) {
  vm_ = nullptr;
  if (out.steps.empty()) return;
  const std::size_t at = current_ < out.steps.size() ? current_ : out.steps.size() - 1;
  for (std::size_t i = at; i < out.steps.size(); ++i) {
    if (i == at && current_ >= out.steps.size())
      break;  // in the tear-down: what the step did stands
    out.steps[i] = Outcome{};
    out.steps[i].kind = OutcomeKind::kSkip;
    out.steps[i].reason = SkipReason::kSubjectStopped;
  }
  collect_complaints(out, out.steps[at]);
}

void CoreSubject::complain(Complaint complaint, std::string text) {
  if (complaint_ != Complaint::kNone) return;
  complaint_ = complaint;
  complaint_text_ = std::move(text);
}

void CoreSubject::collect_complaints(OutcomeStream& out, Outcome& outcome) {
  if (memory_.complained()) {
    const char* what = memory_.complaint_what();
    const Complaint complaint = memory_.take_complaint();
    // What memory saw comes first: a panic or an audit finding may follow from it.
    complaint_ = Complaint::kNone;
    complain(complaint, what);
  }
  if (complaint_ == Complaint::kNone) return;
  if (outcome.complaint == Complaint::kNone) outcome.complaint = complaint_;
  if (out.complaint_text.empty()) out.complaint_text = complaint_text_;
  complaint_ = Complaint::kNone;
}

void CoreSubject::on_finding(const mmu::AuditFinding& finding) {
  if (complaint_ == Complaint::kNone) complain(complaint_of(finding.cls), finding.what);
}

// ---- steps

SkipReason CoreSubject::unsupported(const Op& op) const {
  if (machine_.core != Dimension::kShadow || machine_.mode != Mode::k4Level ||
      machine_.host_levels > 4)
    return SkipReason::kModeNotSupported;
  if (machine_.nested != Nesting::kNone) return SkipReason::kNestedNotSupported;
  if (op.point != Point::kNone) return SkipReason::kInterleavingNotSupported;
  if (op.vcpu >= machine_.vcpus) return SkipReason::kVcpuNotThere;
  switch (op.verb) {
    case Verb::kNestedMap:
    case Verb::kVmEnter:
    case Verb::kVmExit:
    case Verb::kInvept:
    case Verb::kInvvpid:
      return SkipReason::kNestedNotSupported;
    case Verb::kInit:
    case Verb::kSmm:
    case Verb::kAsyncDone:
    case Verb::kGet:
    case Verb::kInvlpga:
    case Verb::kSregs:
    case Verb::kCpuid:
    case Verb::kNewVcpu:
      return SkipReason::kVerbNotSupported;
    case Verb::kSlotAdd:
    case Verb::kSlotDelete:
    case Verb::kSlotMove:
    case Verb::kSlotFlags:
    case Verb::kDirtyGet:
      return op.space ? SkipReason::kVerbNotSupported : SkipReason::kNone;
    case Verb::kInvpcid:
      return machine_.has(feature::kInvpcid) ? SkipReason::kNone : SkipReason::kFeatureNotSupported;
    default:
      return SkipReason::kNone;
  }
}

void CoreSubject::execute(const Op& op, Outcome& out, OutcomeStream& stream) {
  out.reason = unsupported(op);
  if (out.reason != SkipReason::kNone) {
    out.kind = OutcomeKind::kSkip;
    return;
  }
  if (op.verb == Verb::kAccess) return access(op, out);
  exited_ = true;
  switch (op.verb) {
    case Verb::kMov:
      return mov(op, out);
    case Verb::kWrite:
      return write(op, out);
    case Verb::kInvlpg:
      return vcpu(op).invlpg(Gva{op.gva});
    case Verb::kInvpcid:
      if (!vcpu(op).invpcid(op.type, op.pcid, Gva{op.gva})) out.kind = OutcomeKind::kGp;
      return;
    case Verb::kSlotAdd:
    case Verb::kSlotDelete:
    case Verb::kSlotMove:
    case Verb::kSlotFlags:
      return slot(op, out);
    case Verb::kInvalidate:
    case Verb::kRemap:
    case Verb::kProtect:
    case Verb::kAge:
      return host_range(op, out);
    case Verb::kHugeSplit:
    case Verb::kHugeCollapse:
      return huge(op, out);
    case Verb::kDirtyGet:
      return dirty_get(op, out, stream);
    case Verb::kReclaim:
      vm_->reclaim(op.pages);
      return;
    case Verb::kZapAll:
      return vm_->zap_all();
    case Verb::kQuota:
      if (op.pages != 0 && op.pages < 8) {
        out.kind = OutcomeKind::kRefused;
      } else {
        vm_->set_quota(op.pages ? static_cast<mmu::u32>(op.pages) : mmu::kDefaultQuota);
      }
      return;
    case Verb::kFailAlloc:
      fail_after_ = op.after;
      fail_count_ = op.count;
      return;
    default:
      out.kind = OutcomeKind::kSkip;
      out.reason = SkipReason::kVerbNotSupported;
  }
}

void CoreSubject::set_cpl(unsigned v, std::uint8_t cpl) {
  if (registers_[v].cpl == cpl) return;
  registers_[v].cpl = cpl;
  vm_->vcpu(v).set_cpl(cpl);
}

void CoreSubject::mov(const Op& op, Outcome& out) {
  mmu::Vcpu& cpu = vcpu(op);
  Registers& r = registers_[op.vcpu];
  const auto skip = [&out](SkipReason reason) {
    out.kind = OutcomeKind::kSkip;
    out.reason = reason;
  };
  // A write that leaves 4-level mode is skipped, legal or not: no other mode is executed yet.
  const auto stays = [](std::uint64_t cr0, std::uint64_t cr4, std::uint64_t efer) {
    return mode_of(cr0, cr4, efer) == Mode::k4Level;
  };
  bool accepted = true;
  switch (op.reg()) {
    case Reg::kCr0:
      if (!stays(op.value, cpu.cr4(), cpu.efer())) return skip(SkipReason::kModeNotSupported);
      accepted = cpu.set_cr0(op.value);
      break;
    case Reg::kCr3:
      accepted = cpu.set_cr3(op.value);
      break;
    case Reg::kCr4:
      if (!stays(cpu.cr0(), op.value, cpu.efer())) return skip(SkipReason::kModeNotSupported);
      accepted = cpu.set_cr4(op.value);
      break;
    case Reg::kEfer:
      if (!stays(cpu.cr0(), cpu.cr4(), op.value)) return skip(SkipReason::kModeNotSupported);
      accepted = cpu.set_efer(op.value);
      break;
    case Reg::kPkru:
      if (!machine_.has(feature::kPku) || !(cpu.cr4() & cr4::kPke))
        return skip(SkipReason::kFeatureNotSupported);
      r.pkru = static_cast<std::uint32_t>(op.value);
      cpu.set_pkru(r.pkru);
      break;
    case Reg::kCpl:
      set_cpl(op.vcpu, op.value == 3 ? 3 : 0);
      break;
    case Reg::kAc:
      r.ac = op.value != 0;
      cpu.set_ac(r.ac);
      break;
  }
  r.cr3 = cpu.cr3();
  if (!accepted) out.kind = OutcomeKind::kGp;
}

// ---- accesses

void CoreSubject::access(const Op& op, Outcome& out) {
  const std::uint8_t cpl = registers_[op.vcpu].cpl;
  if (op.gives(Field::kCpl)) set_cpl(op.vcpu, op.cpl == 3 ? 3 : 0);
  try_access(op, out);
  set_cpl(op.vcpu, cpl);
  if (out.kind == OutcomeKind::kGp) return;
  const std::uint64_t cr3 = registers_[op.vcpu].cr3;
  const std::uint64_t expected[2] = {
      view_.walk(cr3, op.gva, out.path[0]),
      crosses(op) ? view_.walk(cr3, (op.gva | (kPage - 1)) + 1, out.path[1]) : kUnknownGpa};
  if (out.kind != OutcomeKind::kOk) return;
  for (unsigned i = 0; i < 2; ++i) {  // so far host virtual addresses
    if (out.gpa[i] != kUnknownGpa) out.gpa[i] = view_.gpa_of(out.gpa[i], expected[i]);
  }
}

// Leaves host virtual addresses in out.gpa if the access completed.
void CoreSubject::try_access(const Op& op, Outcome& out) {
  const Registers& r = registers_[op.vcpu];
  const processor::Access wanted{op.gva, static_cast<std::uint8_t>(op.size), op.access(),
                                 op.implicit != 0, op.value};
  for (unsigned refaults = 0; refaults <= options_.refault_bound;) {
    const mmu::EntryState entry = vcpu(op).enter();
    if (!entry.ok) {
      if (!memory_comes_back()) break;
      continue;
    }
    processor::Controls controls;
    controls.root = entry.root.raw;
    controls.tag = {op.vcpu, entry.pcid};
    controls.smep = entry.smep;
    controls.smap = entry.smap;
    controls.pke = entry.pke;
    controls.cpl = r.cpl;
    controls.ac = r.ac;
    controls.pkru = r.pkru;
    processor::Result result;
    processor_.access(controls, wanted, result);
    switch (result.kind) {
      case processor::Result::Kind::kDone:
        return done_natively(op, result, out);
      case processor::Result::Kind::kGeneralProtection:
        out.kind = OutcomeKind::kGp;
        return;
      case processor::Result::Kind::kPageFault:
        break;
    }
    exited_ = true;
    if (handle_fault(op, result, out)) return;
    if (!memory_comes_back()) ++refaults;
    if (memory_.complained()) break;
  }
  complain(Complaint::kLiveness, "the access faults again and again though nothing changes");
  out.kind = OutcomeKind::kSkip;
  out.reason = SkipReason::kSubjectStopped;
}

void CoreSubject::done_natively(const Op& op, const processor::Result& result, Outcome& out) {
  out.kind = OutcomeKind::kOk;
  for (unsigned i = 0; i < result.parts; ++i) {
    const std::uint64_t hva = memory_.hva_of(result.hpa[i]);
    if (hva) out.gpa[i] = hva;
  }
  if (op.access() != AccessKind::kWrite) out.value = result.value;
}

// True: the access is over.
bool CoreSubject::handle_fault(const Op& op, const processor::Result& fault, Outcome& out) {
  const mmu::FaultResult r =
      vcpu(op).handle_fault(Gva{fault.fault_gva}, fault.error_code, op.implicit != 0);
  switch (r.kind) {
    case mmu::FaultResult::Kind::kRetry:
    case mmu::FaultResult::Kind::kNoMemory:
      return false;
    case mmu::FaultResult::Kind::kInject:
      page_fault(r.error_code, fault.fault_gva, out);
      return true;
    case mmu::FaultResult::Kind::kEmulate:
      return emulate(op, out);
    case mmu::FaultResult::Kind::kMmio:
      if (crosses(op)) return emulate(op, out);  // the other half decides as well
      mmio(op, r.gpa.raw, out);
      return true;
  }
  return false;
}

bool CoreSubject::emulate(const Op& op, Outcome& out) {
  const mmu::EmulateResult r =
      vcpu(op).emulate(Gva{op.gva}, access_of(op.access()), static_cast<unsigned>(op.size),
                       op.value, op.implicit != 0);
  switch (r.kind) {
    case mmu::EmulateResult::Kind::kDone: {
      out.kind = OutcomeKind::kOk;
      const Gpa gpa[2] = {r.gpa, r.gpa2};
      for (unsigned i = 0; i < (crosses(op) ? 2u : 1u); ++i) {
        const SlotView* s = view_.find(gpa[i].raw);
        if (s) out.gpa[i] = s->hva + (gpa[i].raw - s->gpa);
      }
      if (op.access() != AccessKind::kWrite) out.value = r.value;
      return true;
    }
    case mmu::EmulateResult::Kind::kInject:
      page_fault(r.error_code, r.fault_gva.raw, out);
      return true;
    case mmu::EmulateResult::Kind::kMmio:
      mmio(op, r.gpa.raw, out);
      return true;
    case mmu::EmulateResult::Kind::kNoMemory:
      return false;
  }
  return false;
}

void CoreSubject::page_fault(std::uint32_t error_code, std::uint64_t cr2, Outcome& out) {
  out.kind = OutcomeKind::kPageFault;
  out.error_code = error_code;
  out.cr2 = cr2;
}

void CoreSubject::mmio(const Op& op, std::uint64_t gpa, Outcome& out) {
  out.kind = OutcomeKind::kMmio;
  out.gpa[0] = gpa;
  out.write = op.access() == AccessKind::kWrite || op.access() == AccessKind::kRmw;
}

// ---- stores to guest-physical memory

void CoreSubject::write(const Op& op, Outcome& out) {
  if (op.writer() == Writer::kHost) return host_write(op, out);
  for (unsigned tries = 0; tries <= options_.refault_bound;) {
    const mmu::EmulateResult r =
        vcpu(op).write_physical(Gpa{op.gpa}, static_cast<unsigned>(op.size), op.value);
    if (r.kind == mmu::EmulateResult::Kind::kDone) return;
    if (r.kind == mmu::EmulateResult::Kind::kMmio) {
      out.kind = OutcomeKind::kMmio;
      out.gpa[0] = r.gpa.raw;
      out.write = true;
      return;
    }
    if (!memory_comes_back()) ++tries;
  }
  complain(Complaint::kLiveness, "the emulated store never completes");
  out.kind = OutcomeKind::kRefused;
}

void CoreSubject::host_write(const Op& op, Outcome& out) {
  const auto size = static_cast<unsigned>(op.size);
  const SlotView* const first = view_.find(op.gpa);
  const SlotView* const last = view_.find(op.gpa + size - 1);
  if (!first || !last) {
    out.kind = OutcomeKind::kRefused;
    return;
  }
  for (unsigned done = 0; done < size;) {
    const std::uint64_t gpa = op.gpa + done;
    // An aligned store is one store, so that no entry is torn.
    const unsigned part = op.gpa % size == 0 ? size : 1;
    const SlotView* const s = view_.find(gpa);
    const std::uint64_t hva = s->hva + (gpa - s->gpa);
    break_cow(hva);
    memory_.poke(hva, part, op.value >> (8 * done));
    done += part;
  }
}

void CoreSubject::break_cow(std::uint64_t hva) {
  if (!memory_.is_protected(hva)) return;
  const std::uint64_t page = hva & ~(kPage - 1);
  vm_->notifier_begin(Hva{page}, Hva{page + kPage});
  memory_.break_cow(page);
  vm_->notifier_end(Hva{page}, Hva{page + kPage});
}

// ---- host events

void CoreSubject::slot(const Op& op, Outcome& out) {
  using Kind = mmu::MemslotRequest::Kind;
  mmu::MemslotRequest request;
  request.kind = op.verb == Verb::kSlotAdd      ? Kind::kAdd
                 : op.verb == Verb::kSlotDelete ? Kind::kDelete
                 : op.verb == Verb::kSlotMove   ? Kind::kMove
                                                : Kind::kFlags;
  request.id = op.slot < mmu::kMaxMemslots ? static_cast<mmu::u32>(op.slot) : mmu::kMaxMemslots;
  request.gfn = mmu::Gfn{op.gpa / kPage};
  request.pages = op.pages;
  request.hva = Hva{op.hva};
  request.read_only = op.flags & slot_flag::kReadOnly;
  request.log_dirty = op.flags & slot_flag::kLogDirty;
  const bool aligned = op.gpa % kPage == 0 && op.hva % kPage == 0;
  const bool backed =
      op.pages <= HostMemory::kHvaBytes / kPage && HostMemory::backs(op.hva, op.pages * kPage);
  mmu::Status status = mmu::Status::kInvalid;
  if (request.kind != Kind::kAdd || (aligned && backed)) {
    if (request.kind != Kind::kMove || op.gpa % kPage == 0) {
      do status = vm_->set_memslot(request);
      while (status == mmu::Status::kNoMemory && memory_comes_back());
    }
  }
  if (status != mmu::Status::kOk) {
    out.kind = OutcomeKind::kRefused;
    return;
  }
  SlotView& s = view_.slot(request.id);
  switch (request.kind) {
    case Kind::kAdd:
      s = {true, request.read_only, request.log_dirty, op.gpa, op.pages * kPage, op.hva};
      break;
    case Kind::kDelete:
      s = SlotView{};
      break;
    case Kind::kMove:
      s.gpa = op.gpa;
      break;
    case Kind::kFlags:
      s.read_only = request.read_only;
      s.log_dirty = request.log_dirty;
      break;
  }
}

void CoreSubject::host_range(const Op& op, Outcome& out) {
  if (op.pages == 0 || op.pages > HostMemory::kHvaBytes / kPage || op.hva % kPage ||
      !HostMemory::backs(op.hva, op.pages * kPage)) {
    out.kind = OutcomeKind::kRefused;
    return;
  }
  const Hva start{op.hva}, end{op.hva + op.pages * kPage};
  if (op.verb == Verb::kAge) {
    vm_->age(start, end, true);
    return;
  }
  vm_->notifier_begin(start, end);
  switch (op.verb) {
    case Verb::kInvalidate:
      memory_.invalidate(op.hva, op.pages);
      break;
    case Verb::kRemap:
      memory_.remap(op.hva, op.pages);
      break;
    default:
      memory_.protect(op.hva, op.pages, op.value != 0);
  }
  vm_->notifier_end(start, end);
}

void CoreSubject::huge(const Op& op, Outcome& out) {
  constexpr std::uint64_t kHuge = std::uint64_t{2} << 20;
  if (op.hva % kPage || !HostMemory::backs(op.hva, kPage)) {
    out.kind = OutcomeKind::kRefused;
    return;
  }
  const std::uint64_t hva = op.hva & ~(kHuge - 1);
  vm_->notifier_begin(Hva{hva}, Hva{hva + kHuge});
  if (op.verb == Verb::kHugeSplit) {
    memory_.huge_split(hva);
  } else {
    memory_.huge_collapse(hva);
  }
  vm_->notifier_end(Hva{hva}, Hva{hva + kHuge});
}

void CoreSubject::dirty_get(const Op& op, Outcome& out, OutcomeStream& stream) {
  const SlotView* const s = op.slot < kMaxSlots ? &view_.slot(op.slot) : nullptr;
  if (!s || !s->used || !s->log_dirty) {
    out.kind = OutcomeKind::kRefused;
    return;
  }
  const std::uint64_t words = (s->bytes / kPage + 63) / 64;
  bitmap_.assign(words, 0);
  if (!vm_->get_dirty_log(static_cast<mmu::u32>(op.slot), bitmap_.data(), words)) {
    out.kind = OutcomeKind::kRefused;
    return;
  }
  out.extra_begin = static_cast<std::uint32_t>(stream.extra.size());
  for (std::uint64_t w = 0; w < words; ++w) {
    for (std::uint64_t bits = bitmap_[w]; bits; bits &= bits - 1) {
      stream.extra.push_back(s->gpa / kPage + w * 64 +
                             static_cast<unsigned>(__builtin_ctzll(bits)));
    }
  }
  out.extra_count = static_cast<std::uint32_t>(stream.extra.size()) - out.extra_begin;
}

// After the core ran out of memory: true if that was injected since the last time, and so may go
// better now.
bool CoreSubject::memory_comes_back() {
  const bool injected = failures_ != failures_seen_;
  failures_seen_ = failures_;
  if (failures_ >= kMostFailures) fail_after_ = fail_count_ = 0;
  return injected;
}

// ---- mmu::Platform

bool CoreSubject::alloc_table(mmu::Hpa& hpa, mmu::u64*& ptr) {
  if (fail_after_) {
    --fail_after_;
  } else if (fail_count_) {
    --fail_count_;
    ++failures_;
    return false;
  }
  std::uint64_t at = 0;
  ptr = memory_.alloc_table(at);
  hpa = mmu::Hpa{at};
  return ptr != nullptr;
}

mmu::FrameLookup CoreSubject::lookup_frame(Hva hva, bool write) {
  mmu::FrameLookup r;
  if (!HostMemory::backs(hva.raw & ~(kPage - 1), kPage)) return r;
  // The host breaks copy-on-write where it finds it: inside the lookup, as a notifier event.
  if (write) break_cow(hva.raw);
  const HostMemory::Lookup found = memory_.lookup(hva.raw);
  if (!found.found) return r;
  r.kind = mmu::FrameLookup::Kind::kFrame;
  r.pfn = mmu::Pfn{found.pfn};
  r.writable = found.writable;
  r.host_level = found.level;
  return r;
}

void CoreSubject::flush_tlb(const mmu::FlushRequest& request) {
  using Kind = mmu::FlushRequest::Kind;
  processor::Flush flush;
  if (request.vcpu != mmu::FlushRequest::kAllVcpus)
    flush.vcpu = static_cast<std::uint8_t>(request.vcpu);
  flush.pcid = request.pcid;
  flush.gva = request.gva.raw;
  flush.kind = request.kind == Kind::kPcid      ? processor::Flush::Kind::kPcid
               : request.kind == Kind::kAddress ? processor::Flush::Kind::kAddress
                                                : processor::Flush::Kind::kAll;
  processor_.flush(flush);
}

void CoreSubject::lock(mmu::LockId id) {
  const auto n = static_cast<unsigned>(id);
  if (locked_[n] || (n == 0 && locked_[1])) panic("a lock is taken twice, or out of order");
  locked_[n] = true;
}

void CoreSubject::unlock(mmu::LockId id) {
  const auto n = static_cast<unsigned>(id);
  if (!locked_[n]) panic("a lock is given back that is not held");
  locked_[n] = false;
}

}  // namespace

std::unique_ptr<Subject> make_core_subject(CoreSubjectOptions options) {
  return std::make_unique<CoreSubject>(options);
}

std::uint32_t core_state_counters() { return mmu::kStateCounters; }

CoreStateNames core_state_names() {
  CoreStateNames out;
  for (const char* name : mmu::kEventNames) out.operations.emplace_back(name);
  out.levels = {"any level", "level 1", "level 2", "level 3", "level 4"};
  static_assert(mmu::kCounterLevels == 5 && mmu::kCounterRoleClasses == 8);
  for (unsigned role = 0; role < mmu::kCounterRoleClasses; ++role) {
    out.roles.push_back(std::string(role & 1 ? "direct" : "indirect") + (role & 2 ? ", WP=0" : "") +
                        (role & 4 ? ", narrowed" : ""));
  }
  return out;
}

}  // namespace twinwalk
