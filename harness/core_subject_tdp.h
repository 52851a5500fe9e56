#ifndef TWINWALK_HARNESS_CORE_SUBJECT_TDP_H_
#define TWINWALK_HARNESS_CORE_SUBJECT_TDP_H_

// The subject `core` with core=ept or npt: the simulated processor runs the guest on its own tables
// and on the core's EPT or NPT. Part of core_subject.cc, and like it allowed to know the core.

#include "harness/host_memory.h"
#include "harness/processor/guest_processor.h"
#include "mmu_core/mmu.h"

namespace twinwalk {

// The machine's memory as that processor sees it: the guest's frames, and the core's tables.
class CorePhysical : public processor::PhysicalMemory {
 public:
  // The page of the page-modification log at `hpa`; null if the core has no page there.
  virtual std::uint64_t* log_page(std::uint64_t hpa) = 0;

 protected:
  ~CorePhysical() = default;
};

class HostPhysical final : public CorePhysical {
 public:
  explicit HostPhysical(HostMemory& memory) : memory_(memory) {}
  bool holds(std::uint64_t) const override { return true; }  // what is no frame is an escape
  std::uint64_t load(std::uint64_t hpa, unsigned size) override { return memory_.load(hpa, size); }
  void store(std::uint64_t hpa, unsigned size, std::uint64_t value) override {
    memory_.store(hpa, size, value);
  }
  bool compare_exchange(std::uint64_t hpa, unsigned size, std::uint64_t expected,
                        std::uint64_t desired) override {
    return memory_.compare_exchange(hpa, size, expected, desired);
  }
  std::uint64_t load_nested(std::uint64_t hpa) override;
  bool update_nested(std::uint64_t hpa, std::uint64_t expected, std::uint64_t desired) override;
  std::uint64_t look(std::uint64_t hpa, unsigned size) override {
    return memory_.state(hpa >> 12) == FrameState::kGuest ? memory_.load(hpa, size) : 0;
  }
  std::uint64_t look_nested(std::uint64_t hpa) override {
    return memory_.state(hpa >> 12) == FrameState::kTable ? load_nested(hpa) : 0;
  }
  void note_reached(std::uint64_t pfn) override { memory_.note_reached(pfn); }
  std::uint64_t* log_page(std::uint64_t hpa) override { return memory_.table_entry(hpa); }

 private:
  HostMemory& memory_;
};

class CoreTdp {
 public:
  explicit CoreTdp(CorePhysical& memory) : memory_(memory), processor_(memory) {}

  // `private_pointer`: of what translates private memory, if the core does not say (a module does).
  void reset(const Machine& machine, std::uint64_t private_pointer = 0);
  const FrameReaders* readers() const { return &processor_; }
  void set_capabilities(const Machine& machine) { processor_.set_capabilities(machine); }

  // One attempt, entered as the core says, with these registers where it says nothing.
  void access(const Registers& registers, unsigned vcpu, const mmu::EntryState& entry,
              const processor::Access& access, processor::GuestResult& result);
  // How what that vCPU was last entered with translates a gpa.
  bool nested_path(unsigned vcpu, std::uint64_t gpa, NestedPath& path) const;
  // What the hardware tells of an exit.
  mmu::TdpFault fault_of(const processor::NestedExit& exit) const;
  // The index of that vCPU's log at an exit; the next entry starts it again.
  mmu::u16 take_log_index(unsigned vcpu);

  // What the vCPU's own instructions drop; `before`: its registers before a MOV to one.
  void executed(const Op& op, const Registers& before, const Registers& after);
  void flush(const mmu::FlushRequest& request);
  // A #PF that the hypervisor injects drops nothing by itself, but the guest relies on it. Of a
  // large page of the guest's all fragments go, so that INVVPID of one address is not enough (KVM's
  // kvm_inject_emulated_page_fault has no more than that).
  void inject_fault(unsigned vcpu) {
    processor_.invvpid(static_cast<std::uint8_t>(vcpu), 1, kVpid, 0);
  }
  void drop_all() { processor_.drop_all(); }

 private:
  static constexpr std::uint16_t kVpid = 1;  // the VPID or ASID of every guest

  processor::GuestControls controls_of(const Registers& registers, unsigned vcpu) const;

  CorePhysical& memory_;
  processor::GuestProcessor processor_;
  processor::PageLog log_[kMaxVcpus];
  Vendor vendor_ = Vendor::kIntel;
  processor::NestedFormat::Kind kind_ = processor::NestedFormat::Kind::kNone;
  std::uint64_t shared_bit_ = 0, private_pointer_ = 0;
  struct Entered {  // with what the vCPU last was
    std::uint64_t pointer = 0, private_pointer = 0;
    std::uint64_t pdpte[4] = {};
  } entered_[kMaxVcpus];
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_CORE_SUBJECT_TDP_H_
