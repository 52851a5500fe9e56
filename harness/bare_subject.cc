#include "harness/bare_subject.h"

#include <algorithm>

#include "harness/host_memory.h"
#include "harness/processor/guest_processor.h"
#include "harness/processor/guest_registers.h"
#include "harness/trace/guest_tables.h"

namespace twinwalk {
namespace {

using processor::GuestControls;
using processor::GuestResult;
using processor::NestedExit;
using processor::NestedFormat;
using processor::PageLog;

constexpr std::uint64_t kPage = 4096;

// Physical memory: [0, bytes), each page the one of the host at that offset.
class Ram final : public processor::PhysicalMemory {
 public:
  void reset(const Machine& machine) {
    memory_.reset(1);
    bytes_ = machine.memory_bytes();
  }
  bool holds(std::uint64_t pa) const override { return pa < bytes_; }
  bool holds(std::uint64_t pa, unsigned size) const { return holds(pa) && holds(pa + size - 1); }
  std::uint64_t load(std::uint64_t pa, unsigned size) override {
    return holds(pa) ? memory_.load(frame(pa), size) : 0;
  }
  void store(std::uint64_t pa, unsigned size, std::uint64_t value) override {
    if (holds(pa)) memory_.store(frame(pa), size, value);
  }
  bool compare_exchange(std::uint64_t pa, unsigned size, std::uint64_t expected,
                        std::uint64_t desired) override {
    return holds(pa) && memory_.compare_exchange(frame(pa), size, expected, desired);
  }
  std::uint64_t load_nested(std::uint64_t pa) override { return load(pa, 8); }
  bool update_nested(std::uint64_t pa, std::uint64_t expected, std::uint64_t desired) override {
    return compare_exchange(pa, 8, expected, desired);
  }
  std::uint64_t peek(std::uint64_t pa) const { return memory_.peek(kHvaBase + pa, 8); }

 private:
  std::uint64_t frame(std::uint64_t pa) {
    return memory_.lookup(kHvaBase + pa).pfn * kPage | (pa & (kPage - 1));
  }

  HostMemory memory_;
  std::uint64_t bytes_ = 0;
};

struct Cpu {
  Registers registers;
  std::uint64_t pdpte[4] = {};
  bool guest = false;
  std::uint64_t pointer = 0;  // EPTP, nCR3
  std::uint16_t vpid = 0;     // ASID
  PageLog log;
  std::uint64_t log_page[PageLog::kEntries];
};

void skip(SkipReason reason, Outcome& out) {
  out = {};
  out.kind = OutcomeKind::kSkip;
  out.reason = reason;
}

OutcomeKind kind_of(NestedExit::Kind kind) {
  switch (kind) {
    case NestedExit::Kind::kEptViolation:
      return OutcomeKind::kEptViolation;
    case NestedExit::Kind::kEptMisconfig:
      return OutcomeKind::kEptMisconfig;
    case NestedExit::Kind::kNestedFault:
      return OutcomeKind::kNestedFault;
    case NestedExit::Kind::kPageLogFull:
      return OutcomeKind::kPmlFull;
  }
  return OutcomeKind::kDone;
}

class BareSubject final : public Subject {
 public:
  explicit BareSubject(StepWatch* watch) : processor_(ram_), watch_(watch) {
    info_.name = "bare";
    info_.version = "in-tree";
    info_.profile = Profile::kArchitecture;
  }
  const SubjectInfo& info() const override { return info_; }
  void run(const Program& program, OutcomeStream& out) override;
  bool nested_path(unsigned vcpu, std::uint64_t gpa, NestedPath& path) const override;
  bool read_image(std::uint64_t gpa, std::uint64_t& word) const override {
    if (!ram_.holds(gpa)) return false;
    word = ram_.peek(gpa);
    return true;
  }

 private:
  SkipReason why_not(const Op& op) const;
  void execute(const Op& op, Outcome& out, OutcomeStream& stream);

  // the vCPU's instructions
  void access(const Op& op, Outcome& out);
  void write_register(const Op& op, Outcome& out);
  void read_register(const Op& op, Outcome& out) const;
  void invpcid(const Op& op, Outcome& out);
  void init(const Op& op);
  // the hypervisor's
  void store(const Op& op, Outcome& out);
  void enter(const Op& op, Outcome& out);
  void leave(unsigned vcpu);
  void invept(const Op& op, Outcome& out);
  void invvpid(const Op& op, Outcome& out);
  void invlpga(const Op& op, Outcome& out);
  void take_log(const Op& op, Outcome& out, OutcomeStream& stream);

  GuestControls controls_of(unsigned vcpu);
  void exited(unsigned vcpu, const GuestResult& result, Outcome& out);
  void show_path(const GuestControls& controls, const Op& op, Outcome& out);
  bool is_amd() const { return machine_.vendor == Vendor::kAmd; }

  SubjectInfo info_;
  Machine machine_;
  Ram ram_;
  processor::GuestProcessor processor_;
  StepWatch* watch_;
  NestedFormat format_;
  Cpu cpus_[kMaxVcpus];
};

void BareSubject::run(const Program& program, OutcomeStream& out) {
  out.clear();
  out.steps.resize(program.steps.size());
  machine_ = program.machine;
  ram_.reset(machine_);
  processor_.reset(machine_);
  const bool npt = machine_.nested == Nesting::kNpt;
  format_.reset(npt ? NestedFormat::Kind::kNpt : NestedFormat::Kind::kEpt, machine_);
  for (Cpu& cpu : cpus_) {
    cpu = Cpu{};
    cpu.registers = initial_registers(machine_);
  }
  // A vCPU that starts in PAE mode has loaded its PDPTEs; of one with a reserved bit nothing.
  for (unsigned v = 0; v < machine_.vcpus; ++v) {
    if (machine_.mode != Mode::kPae || is_amd()) continue;
    GuestControls controls = controls_of(v);
    GuestResult result;
    processor_.load_pdptes(controls, cpus_[v].registers.cr3, result);
    std::copy(controls.pdpte, controls.pdpte + 4, cpus_[v].pdpte);
  }
  const bool runs = machine_.core == Dimension::kBare && machine_.nested != Nesting::kShadow;
  std::size_t watched = watch_ != nullptr ? 0 : StepWatch::kNoStep;
  for (std::size_t i = 0; i < program.steps.size(); ++i) {
    if (i >= watched) watched = watch_->reached(i);
    const Op& op = program.steps[i].what;
    const SkipReason reason = runs ? why_not(op) : SkipReason::kModeNotSupported;
    if (reason != SkipReason::kNone) {
      skip(reason, out.steps[i]);
    } else {
      execute(op, out.steps[i], out);
    }
  }
  if (program.steps.size() >= watched) watch_->reached(program.steps.size());
}

bool BareSubject::nested_path(unsigned vcpu, std::uint64_t gpa, NestedPath& path) const {
  const Cpu& cpu = cpus_[vcpu];
  if (!cpu.guest) return false;
  processor::NestedControls nested;
  nested.kind = format_.kind();
  nested.pointer = cpu.pointer;
  processor_.peek(nested, gpa, path);
  return true;
}

SkipReason BareSubject::why_not(const Op& op) const {
  if (op.point != Point::kNone) return SkipReason::kInterleavingNotSupported;
  if (op.vcpu >= machine_.vcpus) return SkipReason::kVcpuNotThere;
  const bool ept = machine_.nested == Nesting::kEpt, npt = machine_.nested == Nesting::kNpt;
  switch (op.verb) {
    case Verb::kMov:
    case Verb::kWrite:
    case Verb::kAccess:
    case Verb::kInvlpg:
    case Verb::kInvlpga:
    case Verb::kGet:
      return SkipReason::kNone;
    case Verb::kInvpcid:
      return machine_.has(feature::kInvpcid) ? SkipReason::kNone : SkipReason::kFeatureNotSupported;
    case Verb::kInit:
      return cpus_[op.vcpu].guest ? SkipReason::kVerbNotSupported : SkipReason::kNone;
    case Verb::kVmEnter:
    case Verb::kVmExit:
      return ept || npt ? SkipReason::kNone : SkipReason::kNestedNotSupported;
    case Verb::kInvept:
    case Verb::kInvvpid:
      return ept ? SkipReason::kNone : SkipReason::kNestedNotSupported;
    case Verb::kPmlGet:
      return ept && (machine_.tdp & tdp::kPml) ? SkipReason::kNone
                                               : SkipReason::kNestedNotSupported;
    default:
      return SkipReason::kVerbNotSupported;
  }
}

void BareSubject::execute(const Op& op, Outcome& out, OutcomeStream& stream) {
  switch (op.verb) {
    case Verb::kMov:
      return write_register(op, out);
    case Verb::kWrite:
      return store(op, out);
    case Verb::kAccess:
      return access(op, out);
    case Verb::kInvlpg:
      return processor_.invlpg(controls_of(op.vcpu), op.gva);
    case Verb::kInvlpga:
      return invlpga(op, out);
    case Verb::kGet:
      return read_register(op, out);
    case Verb::kInvpcid:
      return invpcid(op, out);
    case Verb::kInit:
      return init(op);
    case Verb::kVmEnter:
      return enter(op, out);
    case Verb::kVmExit:
      return leave(op.vcpu);
    case Verb::kInvept:
      return invept(op, out);
    case Verb::kInvvpid:
      return invvpid(op, out);
    case Verb::kPmlGet:
      return take_log(op, out, stream);
    default:
      return skip(SkipReason::kVerbNotSupported, out);
  }
}

GuestControls BareSubject::controls_of(unsigned vcpu) {
  Cpu& cpu = cpus_[vcpu];
  GuestControls controls;
  controls.registers = cpu.registers;
  controls.vcpu = static_cast<std::uint8_t>(vcpu);
  std::copy(cpu.pdpte, cpu.pdpte + 4, controls.pdpte);
  if (!cpu.guest) return controls;
  controls.nested.kind = format_.kind();
  controls.nested.pointer = cpu.pointer;
  controls.nested.vpid = cpu.vpid;
  cpu.log.page = cpu.log_page;
  if (format_.kind() == NestedFormat::Kind::kEpt && (machine_.tdp & tdp::kPml))
    controls.nested.log = &cpu.log;
  return controls;
}

// ---- the vCPU's instructions

void BareSubject::access(const Op& op, Outcome& out) {
  GuestControls controls = controls_of(op.vcpu);
  if (op.gives(Field::kCpl)) controls.registers.cpl = op.cpl == 3 ? 3 : 0;
  GuestResult result;
  processor_.access(
      controls,
      {op.gva, static_cast<std::uint8_t>(op.size), op.access(), op.implicit != 0, op.value},
      result);
  switch (result.kind) {
    case GuestResult::Kind::kDone:
      out.kind = OutcomeKind::kOk;
      std::copy(result.hpa, result.hpa + result.parts, out.gpa);
      if (op.access() != AccessKind::kWrite) out.value = result.value;
      break;
    case GuestResult::Kind::kPageFault:
      out.kind = OutcomeKind::kPageFault;
      out.error_code = result.error_code;
      out.cr2 = result.fault_gva;
      break;
    case GuestResult::Kind::kGeneralProtection:
      out.kind = OutcomeKind::kGp;
      return;
    case GuestResult::Kind::kNoMemory:
      out.kind = OutcomeKind::kMmio;
      out.gpa[0] = result.hpa[0];
      out.write = op.access() == AccessKind::kWrite || op.access() == AccessKind::kRmw;
      break;
    case GuestResult::Kind::kExit:
      exited(op.vcpu, result, out);
      break;
  }
  show_path(controls, op, out);
}

void BareSubject::exited(unsigned vcpu, const GuestResult& result, Outcome& out) {
  out.kind = kind_of(result.exit.kind);
  out.qualification = result.exit.qualification;
  if (out.kind != OutcomeKind::kPmlFull) out.gpa[0] = result.exit.gpa;
  if (out.kind == OutcomeKind::kEptViolation && (out.qualification & eqx::kGvaValid))
    out.cr2 = result.fault_gva;
  if (cpus_[vcpu].vpid == 0) processor_.drop_vpid_0(static_cast<std::uint8_t>(vcpu));
}

void BareSubject::show_path(const GuestControls& controls, const Op& op, Outcome& out) {
  auto read = [&](std::uint64_t gpa, unsigned bytes, std::uint64_t& entry) {
    std::uint64_t pa;
    if (!processor_.peek(controls, gpa, pa) || !ram_.holds(pa)) return false;
    entry = ram_.load(pa, bytes);
    return true;
  };
  walk_guest_tables(controls.registers, op.gva, read, out.path[0]);
  const bool crosses =
      op.access() != AccessKind::kFetch && (op.gva & (kPage - 1)) + op.size > kPage;
  if (!crosses) return;
  walk_guest_tables(controls.registers, (op.gva | (kPage - 1)) + 1, read, out.path[1]);
}

void BareSubject::write_register(const Op& op, Outcome& out) {
  using Kind = processor::RegisterAnswer::Kind;
  Cpu& cpu = cpus_[op.vcpu];
  const Registers before = cpu.registers;
  const auto answer = processor::write_guest_register(machine_, before, op.reg(), op.value);
  if (answer.kind == Kind::kNotThere) return skip(SkipReason::kFeatureNotSupported, out);
  if (answer.kind == Kind::kGeneralProtection) {
    out.kind = OutcomeKind::kGp;
    return;
  }
  GuestControls controls = controls_of(op.vcpu);
  if (answer.loads_pdptes) {
    GuestResult result;
    processor_.load_pdptes(controls, answer.after.cr3, result);
    if (result.kind == GuestResult::Kind::kExit) return exited(op.vcpu, result, out);
    if (result.kind != GuestResult::Kind::kDone) {
      out.kind = OutcomeKind::kGp;
      return;
    }
    std::copy(controls.pdpte, controls.pdpte + 4, cpu.pdpte);
  }
  cpu.registers = answer.after;
  processor_.registers_written(
      controls,
      processor::effect_of_write(machine_.vendor, before, answer.after, op.reg(), op.value));
}

void BareSubject::read_register(const Op& op, Outcome& out) const {
  const Registers& r = cpus_[op.vcpu].registers;
  if (op.reg() == Reg::kPkru && (!machine_.has(feature::kPku) || !(r.cr4 & cr4::kPke)))
    return skip(SkipReason::kFeatureNotSupported, out);
  out.kind = OutcomeKind::kOk;
  out.value = value_of(r, op.reg());
  // Outside IA-32e mode the instruction has an operand of 32 bits.
  if (op.reg() == Reg::kCr3 && !(r.efer & efer::kLma)) out.value &= 0xffff'ffff;
}

void BareSubject::invpcid(const Op& op, Outcome& out) {
  const Registers& r = cpus_[op.vcpu].registers;
  if (processor::invpcid_is_refused(r, op.type, op.pcid, op.gva)) {
    out.kind = OutcomeKind::kGp;
    return;
  }
  processor_.invpcid(controls_of(op.vcpu), static_cast<unsigned>(op.type),
                     static_cast<std::uint16_t>(op.pcid), op.gva);
}

// SDM 3A §"Processor State After Reset": INIT keeps CD, NW and PKRU.
void BareSubject::init(const Op& op) {
  Registers& r = cpus_[op.vcpu].registers;
  constexpr std::uint64_t kCaching = cr0::kCd | cr0::kNw;
  const bool reset = op.type != 0;
  const std::uint32_t pkru = reset ? 0 : r.pkru;
  const std::uint64_t caching = reset ? kCaching : r.cr0 & kCaching;
  r = Registers{};
  r.cr0 = cr0::kEt | caching;
  r.cr3 = r.cr4 = r.efer = 0;
  r.pkru = pkru;
  processor_.drop_vcpu(op.vcpu);
}

// ---- the hypervisor's

void BareSubject::store(const Op& op, Outcome& out) {
  const auto size = static_cast<unsigned>(op.size);
  if (!ram_.holds(op.gpa, size)) {
    if (op.writer() == Writer::kHost) {
      out.kind = OutcomeKind::kRefused;
      return;
    }
    out.kind = OutcomeKind::kMmio;
    out.write = true;
    out.gpa[0] = ram_.holds(op.gpa) ? (op.gpa | (kPage - 1)) + 1 : op.gpa;
    return;
  }
  const unsigned first = std::min(size, static_cast<unsigned>(kPage - op.gpa % kPage));
  ram_.store(op.gpa, first, op.value);
  if (first < size) ram_.store(op.gpa + first, size - first, op.value >> (8 * first));
}

void BareSubject::enter(const Op& op, Outcome& out) {
  constexpr unsigned kTlbControls = 1u << 0 | 1u << 1 | 1u << 3 | 1u << 7;
  const bool npt = format_.kind() == NestedFormat::Kind::kNpt;
  const bool taken = npt ? op.pcid != 0 && (kTlbControls >> op.type & 1) : format_.takes(op.value);
  if (!taken) {
    out.kind = OutcomeKind::kVmFail;
    return;
  }
  leave(op.vcpu);
  Cpu& cpu = cpus_[op.vcpu];
  cpu.guest = true;
  cpu.pointer = op.value;
  cpu.vpid = static_cast<std::uint16_t>(op.pcid);
  if (npt) {
    processor_.tlb_control(op.vcpu, cpu.vpid, static_cast<unsigned>(op.type));
  } else if (cpu.vpid == 0) {
    processor_.drop_vpid_0(op.vcpu);
  }
}

void BareSubject::leave(unsigned vcpu) {
  Cpu& cpu = cpus_[vcpu];
  if (!cpu.guest) return;
  cpu.guest = false;
  if (cpu.vpid == 0) processor_.drop_vpid_0(static_cast<std::uint8_t>(vcpu));
}

void BareSubject::invept(const Op& op, Outcome& out) {
  const bool taken = op.type == 2 || (op.type == 1 && format_.takes(op.value));
  if (!taken) {
    out.kind = OutcomeKind::kVmFail;
    return;
  }
  processor_.invept(op.vcpu, static_cast<unsigned>(op.type), op.value);
}

// SDM 3C §"INVVPID": the address has to be canonical for the widest that the processor has in use.
void BareSubject::invvpid(const Op& op, Outcome& out) {
  const unsigned bits = cpus_[op.vcpu].registers.cr4 & cr4::kLa57 ? 57 : 48;
  const bool taken = op.type <= 3 && (op.type == 2 || op.pcid != 0) &&
                     (op.type != 0 || processor::is_canonical(op.gva, bits));
  if (!taken) {
    out.kind = OutcomeKind::kVmFail;
    return;
  }
  processor_.invvpid(op.vcpu, static_cast<unsigned>(op.type), static_cast<std::uint16_t>(op.pcid),
                     op.gva);
}

// A hypervisor runs with EFER.SVME, whatever its guest's EFER is.
void BareSubject::invlpga(const Op& op, Outcome& out) {
  const bool there =
      machine_.nested == Nesting::kNpt || (cpus_[op.vcpu].registers.efer & efer::kSvme);
  if (!there) {
    out.kind = OutcomeKind::kUd;
    return;
  }
  const auto asid = static_cast<std::uint32_t>(op.value);
  if (asid >> 16 == 0)
    processor_.invlpga(cpus_[op.vcpu].registers, op.vcpu, static_cast<std::uint16_t>(asid), op.gva);
}

void BareSubject::take_log(const Op& op, Outcome& out, OutcomeStream& stream) {
  Cpu& cpu = cpus_[op.vcpu];
  out.extra_begin = static_cast<std::uint32_t>(stream.extra.size());
  const unsigned left = cpu.log.index < PageLog::kEntries ? cpu.log.index + 1u : 0;
  for (unsigned i = PageLog::kEntries; i-- > left;) stream.extra.push_back(cpu.log_page[i]);
  out.extra_count = static_cast<std::uint32_t>(stream.extra.size()) - out.extra_begin;
  cpu.log.index = PageLog::kEntries - 1;
}

}  // namespace

std::unique_ptr<Subject> make_bare_subject(StepWatch* watch) {
  return std::make_unique<BareSubject>(watch);
}

}  // namespace twinwalk
