#include "harness/core_subject.h"

#include "harness/core/access_shape.h"
#include "harness/core/allocation_failures.h"
#include "harness/core/run.h"
#include "harness/core_subject_tdp.h"
#include "harness/guest_view.h"
#include "harness/host_memory.h"
#include "harness/object_pool.h"
#include "harness/processor/private_module.h"
#include "harness/processor/processor.h"
#include "mmu_core/counters.h"
#include "mmu_core/tdp/counters.h"

namespace twinwalk {
namespace {

constexpr std::uint64_t kPage = 4096;

class CoreSubject final : public CoreRun {
 public:
  explicit CoreSubject(const CoreSubjectOptions& options)
      : CoreRun({options.audit, options.refault_bound, options.state_counters, options.watch}),
        processor_(memory_),
        physical_(memory_),
        module_(physical_),
        tdp_(physical_),
        view_{{memory_, slots_[0]}, {memory_, slots_[1]}} {
    info_.name = "core";
    info_.version = "in-tree";
  }

  // With two dimensions the guest's tables are walked by hardware, whose TLB is the architecture's.
  Profile profile_for(const Machine& machine) const override {
    return machine.core == Dimension::kShadow ? Profile::kKvm : Profile::kArchitecture;
  }
  bool nested_path(unsigned vcpu, std::uint64_t gpa, NestedPath& path) const override {
    return two_dimensions() && tdp_.nested_path(vcpu, gpa, path);
  }
  bool read_image(std::uint64_t gpa, std::uint64_t& word) const override {
    return view_[0].read(gpa, word);
  }

 private:
  // ---- CoreRun
  SkipReason prepare(const Machine& machine) override;
  void before_tear_down() override {  // no vCPU runs any more
    processor_.flush({});
    tdp_.drop_all();
  }
  // With all that a module still has, but for the root, which is its own.
  std::uint64_t live_tables() const override {
    return memory_.live_tables() + module_.held() - (module_.pointer() != 0 ? 1 : 0);
  }
  std::uint64_t live_objects() const override { return objects_.live(); }
  void add_complaints() override;

  // ---- CoreHost
  SkipReason why_not(const Op& op) const override { return why_not_core(op); }
  Attempt attempt(const Op& op, const mmu::EntryState& entry, Outcome& out) override;
  void finish_access(const Op& op, Outcome& out) override;
  void executed(const Op& op, const Registers& before) override;
  bool backs(std::uint64_t hva, std::uint64_t pages) const override {
    return pages <= HostMemory::kHvaBytes / kPage && HostMemory::backs(hva, pages * kPage);
  }
  bool is_protected(std::uint64_t hva) const override { return memory_.is_protected(hva); }
  void break_cow(std::uint64_t hva) override { memory_.break_cow(hva); }
  bool poke(std::uint64_t hva, unsigned size, std::uint64_t value) override {
    memory_.poke(hva, size, value);
    return true;
  }
  void invalidate(std::uint64_t hva, std::uint64_t pages) override {
    memory_.invalidate(hva, pages);
  }
  void remap(std::uint64_t hva, std::uint64_t pages) override { memory_.remap(hva, pages); }
  void protect(std::uint64_t hva, std::uint64_t pages, bool writable) override {
    memory_.protect(hva, pages, writable);
  }
  void huge_split(std::uint64_t hva) override { memory_.huge_split(hva); }
  void huge_collapse(std::uint64_t hva) override { memory_.huge_collapse(hva); }
  void fail_allocations(std::uint64_t after, std::uint64_t count) override {
    failures_.ask(after, count);
  }
  bool memory_comes_back() override { return failures_.come_back(context()); }

  // ---- mmu::Platform
  bool alloc_table(mmu::TableReach reach, mmu::Hpa& hpa, mmu::u64*& ptr) override;
  void free_table(mmu::Hpa hpa) override { memory_.free_table(hpa.raw); }
  void set_descriptor(mmu::Hpa table, void* descriptor) override {
    memory_.set_descriptor(table.raw, descriptor);
  }
  void* descriptor_of(mmu::Hpa table) const override { return memory_.descriptor_of(table.raw); }
  void* alloc_object(mmu::u64 size) override {
    return allocation_fails() ? nullptr : objects_.allocate(size);
  }
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
  mmu::FrameLookup lookup_frame(mmu::Hva hva, bool write) override;
  void flush_tlb(const mmu::FlushRequest& request) override;
  bool link_external_table(mmu::Gfn gfn, mmu::u8 level, mmu::Hpa table) override;
  bool set_external_leaf(mmu::Gfn gfn, mmu::Pfn pfn) override;
  void remove_external_leaf(mmu::Gfn gfn, mmu::Pfn pfn) override;
  void free_external_table(mmu::Gfn gfn, mmu::u8 level, mmu::Hpa table) override;

  bool two_dimensions() const { return machine_.core != Dimension::kShadow; }
  bool allocation_fails() { return failures_.next_fails(); }
  bool handle_fault(const Op& op, const processor::Result& fault, Outcome& out);
  Attempt attempt_tdp(const Op& op, const mmu::EntryState& entry, Outcome& out);
  bool handle_exit(const Op& op, const processor::NestedExit& exit, Outcome& out);
  void gpas_to_hvas(const Op& op, Outcome& out) const;
  void done_natively(const Op& op, const std::uint64_t (&hpa)[2], unsigned parts,
                     std::uint64_t value, Outcome& out);

  HostMemory memory_;
  ObjectPool objects_;
  processor::Processor processor_;
  HostPhysical physical_;
  processor::PrivateModule module_;
  CoreTdp tdp_;
  GuestView view_[kSpaces];
  AllocationFailures failures_;
};

// ---- a run

SkipReason CoreSubject::prepare(const Machine& machine) {
  memory_.reset(machine.host_page_level);
  objects_.reset();
  module_.remove();
  if (machine.core == Dimension::kShadow) {
    processor_.reset(machine);
    memory_.set_readers(&processor_);
  } else {
    if (has_module(machine)) {
      std::uint64_t root = 0;
      if (memory_.alloc_table(root) == nullptr) return SkipReason::kModeNotSupported;
      module_.reset(machine, root);
    }
    tdp_.reset(machine, module_.pointer());
    memory_.set_readers(tdp_.readers());
  }
  failures_.reset();
  if (machine.core == Dimension::kBare) return SkipReason::kModeNotSupported;
  if (machine.core == Dimension::kNpt && machine.vendor != Vendor::kAmd)
    return SkipReason::kModeNotSupported;
  if (machine.core == Dimension::kEpt && machine.vendor != Vendor::kIntel)
    return SkipReason::kModeNotSupported;
  return machine.nested != Nesting::kNone ? SkipReason::kNestedNotSupported : SkipReason::kNone;
}

// What memory saw comes first: a panic or an audit finding may follow from it.
void CoreSubject::add_complaints() {
  if (const char* const refused = module_.take_complaint())
    complaints_.put_first(Complaint::kAuditParent, refused);
  if (!memory_.complained()) return;
  const char* what = memory_.complaint_what();
  complaints_.put_first(memory_.take_complaint(), what);
}

// Width of the guest's linear addresses, whatever tables the hardware walks.
constexpr std::uint8_t gva_bits(Mode mode) {
  return mode == Mode::k5Level ? 57 : mode == Mode::k4Level ? 48 : 32;
}

// ---- accesses: until finish_access, out.gpa holds host virtual addresses

Attempt CoreSubject::attempt(const Op& op, const mmu::EntryState& entry, Outcome& out) {
  if (two_dimensions()) return attempt_tdp(op, entry, out);
  const Registers& r = registers_of(op);
  processor::Controls controls;
  controls.root = entry.root.raw;
  controls.levels = entry.levels;
  controls.gva_bits = gva_bits(mode_of(r.cr0, r.cr4, r.efer));
  controls.tag = {op.vcpu, entry.pcid};
  controls.smep = entry.smep;
  controls.smap = entry.smap;
  controls.pke = entry.pke;
  controls.cpl = r.cpl;
  controls.ac = r.ac;
  controls.pkru = r.pkru;
  processor::Result result;
  processor_.access(
      controls,
      {op.gva, static_cast<std::uint8_t>(op.size), op.access(), op.implicit != 0, op.value},
      result);
  switch (result.kind) {
    case processor::Result::Kind::kDone:
      done_natively(op, result.hpa, result.parts, result.value, out);
      return Attempt::kOver;
    case processor::Result::Kind::kGeneralProtection:
      out.kind = OutcomeKind::kGp;
      return Attempt::kOver;
    case processor::Result::Kind::kEntryFailed:
      complaints_.add(Complaint::kTrap, "the entry fails: a PDPTE has a reserved bit");
      return Attempt::kHopeless;
    case processor::Result::Kind::kPageFault:
      break;
  }
  if (handle_fault(op, result, out)) return Attempt::kOver;
  return memory_.complained() ? Attempt::kHopeless : Attempt::kAgain;
}

// A #PF is the guest's own; what the second dimension lacks is the core's.
Attempt CoreSubject::attempt_tdp(const Op& op, const mmu::EntryState& entry, Outcome& out) {
  using Kind = processor::GuestResult::Kind;
  processor::GuestResult result;
  tdp_.access(registers_of(op), op.vcpu, entry,
              {op.gva, static_cast<std::uint8_t>(op.size), op.access(), op.implicit != 0, op.value},
              result);
  switch (result.kind) {
    case Kind::kDone:
      done_natively(op, result.hpa, result.parts, result.value, out);
      return Attempt::kOver;
    case Kind::kGeneralProtection:
      out.kind = OutcomeKind::kGp;
      return Attempt::kOver;
    case Kind::kPageFault:
      out.kind = OutcomeKind::kPageFault;
      out.error_code = result.error_code;
      out.cr2 = result.fault_gva;
      return Attempt::kOver;
    case Kind::kNoMemory:
      return Attempt::kHopeless;
    case Kind::kExit:
      break;
  }
  if (handle_exit(op, result.exit, out)) return Attempt::kOver;
  return memory_.complained() ? Attempt::kHopeless : Attempt::kAgain;
}

bool CoreSubject::handle_exit(const Op& op, const processor::NestedExit& exit, Outcome& out) {
  steps().flush_pml(op, tdp_.take_log_index(op.vcpu));
  if (exit.kind == processor::NestedExit::Kind::kPageLogFull) return false;
  if (!steps().answer_tdp_fault(op, tdp_.fault_of(exit), out)) return false;
  if (out.kind == OutcomeKind::kPageFault) tdp_.inject_fault(op.vcpu);
  gpas_to_hvas(op, out);
  return true;
}

void CoreSubject::executed(const Op& op, const Registers& before) {
  if (!two_dimensions()) return;
  if (op.verb == Verb::kCpuid) return tdp_.set_capabilities(machine_now());
  tdp_.executed(op, before, registers_of(op));
}

void CoreSubject::done_natively(const Op& op, const std::uint64_t (&hpa)[2], unsigned parts,
                                std::uint64_t value, Outcome& out) {
  out.kind = OutcomeKind::kOk;
  for (unsigned i = 0; i < parts; ++i) {
    const std::uint64_t hva = memory_.hva_of(hpa[i]);
    if (hva) out.gpa[i] = hva;
  }
  if (op.access() != AccessKind::kWrite) out.value = value;
}

bool CoreSubject::handle_fault(const Op& op, const processor::Result& fault, Outcome& out) {
  if (!steps().answer_fault(op, fault.fault_gva, fault.error_code, out)) return false;
  gpas_to_hvas(op, out);
  return true;
}

void CoreSubject::gpas_to_hvas(const Op& op, Outcome& out) const {
  if (out.kind != OutcomeKind::kOk) return;
  for (std::uint64_t& gpa : out.gpa) {
    const SlotView* const s = gpa == kUnknownGpa ? nullptr : slots_[space_of(op)].find(gpa);
    gpa = s ? s->hva_of(gpa) : kUnknownGpa;
  }
}

void CoreSubject::finish_access(const Op& op, Outcome& out) {
  const unsigned space = space_of(op);
  const Registers& r = registers_of(op);
  const std::uint64_t expected[2] = {
      view_[space].walk(r, op.gva, out.path[0]),
      crosses(op) ? view_[space].walk(r, second_page(op), out.path[1]) : kUnknownGpa};
  if (out.kind != OutcomeKind::kOk) return;
  for (unsigned i = 0; i < 2; ++i) {
    const std::uint64_t hva = out.gpa[i];
    if (hva == kUnknownGpa) continue;
    out.gpa[i] = slots_[space].gpa_of(hva, expected[i]);
    if (!has_identity_map(machine_) || hva - kIdentityMapHva >= kPage) continue;
    out.gpa[i] = kIdentityMap + (hva - kIdentityMapHva);
    steps().restore_identity_map();
  }
}

// ---- mmu::Platform

bool CoreSubject::alloc_table(mmu::TableReach reach, mmu::Hpa& hpa, mmu::u64*& ptr) {
  if (allocation_fails()) return false;
  std::uint64_t at = 0;
  ptr = memory_.alloc_table(at, reach == mmu::TableReach::kBelow4G);
  hpa = mmu::Hpa{at};
  return ptr != nullptr;
}

mmu::FrameLookup CoreSubject::lookup_frame(mmu::Hva hva, bool write) {
  mmu::FrameLookup r;
  if (!HostMemory::backs(hva.raw & ~(kPage - 1), kPage)) return r;
  if (write) steps().break_cow(hva.raw);
  const HostMemory::Lookup found = memory_.lookup(hva.raw);
  if (!found.found) return r;
  r.kind = mmu::FrameLookup::Kind::kFrame;
  r.pfn = mmu::Pfn{found.pfn};
  r.writable = found.writable;
  r.host_level = found.level;
  return r;
}

void CoreSubject::flush_tlb(const mmu::FlushRequest& request) {
  if (two_dimensions()) return tdp_.flush(request);
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

// A module that is busy is one more thing that may fail, and goes better when it is tried again.

bool CoreSubject::link_external_table(mmu::Gfn gfn, mmu::u8 level, mmu::Hpa table) {
  if (allocation_fails()) return false;
  module_.link(gfn.raw, level, table.raw);
  return true;
}

bool CoreSubject::set_external_leaf(mmu::Gfn gfn, mmu::Pfn pfn) {
  if (allocation_fails()) return false;
  module_.set_leaf(gfn.raw, pfn.raw);
  return true;
}

void CoreSubject::remove_external_leaf(mmu::Gfn gfn, mmu::Pfn pfn) {
  module_.remove_leaf(gfn.raw, pfn.raw);
  tdp_.flush({});
}

void CoreSubject::free_external_table(mmu::Gfn gfn, mmu::u8 level, mmu::Hpa table) {
  module_.free_table(gfn.raw, level, table.raw);
  tdp_.flush({});
}

}  // namespace

std::unique_ptr<Subject> make_core_subject(CoreSubjectOptions options) {
  return std::make_unique<CoreSubject>(options);
}

std::uint32_t core_state_counters() { return mmu::kStateCounters; }

std::vector<CoreStateNames> core_state_names() {
  CoreStateNames shadow, tdp;
  shadow.title = "Shadow paging";
  for (const char* name : mmu::kEventNames) shadow.operations.emplace_back(name);
  shadow.levels = {"any level", "level 1", "level 2", "level 3", "level 4", "level 5"};
  static_assert(mmu::kCounterLevels == 6 && mmu::kCounterRoleClasses == 8 * mmu::kCounterPagings);
  for (unsigned role = 0; role < mmu::kCounterRoleClasses; ++role) {
    shadow.roles.push_back(std::string(mmu::kPagingNames[role >> 3]) +
                           (role & 1 ? ", direct" : ", indirect") + (role & 2 ? ", WP=0" : "") +
                           (role & 4 ? ", narrowed" : ""));
  }
  tdp.title = "Two dimensions";
  tdp.first = mmu::kTdpCountersFrom;
  for (const char* name : mmu::kTdpEventNames) tdp.operations.emplace_back(name);
  tdp.levels = shadow.levels;
  for (const char* name : mmu::kTdpClassNames) tdp.roles.emplace_back(name);
  return {shadow, tdp};
}

}  // namespace twinwalk
