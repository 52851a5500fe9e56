#ifndef TWINWALK_KVM_RUNNER_VM_H_
#define TWINWALK_KVM_RUNNER_VM_H_

// One VM of /dev/kvm whose vCPUs run the payload, one stub at a time.

#include <linux/kvm.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "harness/trace/machine.h"
#include "kvm_runner/batch_page.h"
#include "kvm_runner/dirty_ring.h"
#include "kvm_runner/host.h"
#include "kvm_runner/kvm_abi.h"
#include "kvm_runner/layout.h"
#include "kvm_runner/stub_call.h"
#include "kvm_runner/watchdog.h"

namespace twinwalk::kvm {

// How long a stub may take, or a batch of them; it takes microseconds.
inline constexpr unsigned kStepMilliseconds = 1000;
inline constexpr std::uint64_t kRflagsFixed = 2, kRflagsAc = 1 << 18;

// SDM 3A §"Exception and Interrupt Reference".
constexpr bool pushes_error_code(unsigned vector) {
  return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21;
}

// How KVM tells what the guest wrote.
enum class LogKind : std::uint8_t {
  kBitmap,
  kManual,  // KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: what is collected stays in the log until cleared
  kRing,    // KVM_CAP_DIRTY_LOG_RING: there is no bitmap
};
// The kind that options of a machine ask for.
LogKind log_kind_of(const Machine& machine);

class Vm {
 public:
  ~Vm();
  Vm(const Vm&) = delete;
  Vm& operator=(const Vm&) = delete;

  // A VM with the harness's memslot and machine.vcpus vCPUs at CPL 0 with `registers`. Null and the
  // reason if KVM refuses. The trace's memslots are the caller's; a root that holds the layout's
  // entry must be in place before the first run().
  static std::unique_ptr<Vm> create(const Host& host, const Machine& machine, const Layout& layout,
                                    const Registers& registers, std::string& why);

  // Whether begin_again() can bring it back: not to vCPUs that are no more.
  bool is_whole() const { return vcpus_ == vcpus_ever_; }
  // Deletes all its memslots, the harness's too, and with them every translation that KVM has
  // made. It runs nothing before begin_again().
  void drop_memslots();
  // Makes it what create() would have made for the same machine. False, and why, if KVM refuses:
  // then it is of no use any more.
  bool begin_again(const Layout& layout, const Registers& registers, std::string& why);
  // KVM destroys no vCPU before its VM: the old one is given up, and one with a new id takes its
  // place. False, and nothing changed, if KVM has no more.
  bool renew_vcpu(const Host& host, const Machine& machine, const Registers& registers,
                  unsigned index, std::string& why);

  // KVM_SET_SREGS, with the descriptors of 64-bit or of 32-bit code: 0 or errno. CR0.PE stays set,
  // since the runner has no code for real mode: without paging it changes no access.
  int set_registers(unsigned vcpu, const Registers& registers);
  // The PDPTEs that count now. False if the host cannot say.
  bool get_pdptes(unsigned vcpu, std::array<std::uint64_t, 4>& pdptes) const;

  // KVM_SET_USER_MEMORY_REGION; 0 or errno. bytes == 0 deletes. flags: KVM_MEM_*.
  int set_slot(unsigned id, std::uint64_t gpa, std::uint64_t bytes, void* memory,
               std::uint32_t flags);
  // The kind that it has: the one that the machine asks for, or kBitmap if KVM has not got that.
  LogKind log_kind() const { return log_kind_; }
  // KVM_GET_DIRTY_LOG: fills one bit a page of the slot and (kBitmap) clears the log; 0 or errno.
  int dirty_log(unsigned id, std::uint64_t* bitmap);
  // KVM_CLEAR_DIRTY_LOG of pages [first, first + pages), both multiples of 64 but for the slot's
  // end, as far as their bits are set; 0 or errno.
  int clear_dirty_log(unsigned id, std::uint64_t first, std::uint64_t pages, std::uint64_t* bitmap);
  // Appends what all vCPUs' rings had since the last time; their pages are protected again.
  void take_dirty_rings(std::vector<DirtyPage>& pages);
  // Makes KVM drop every translation that it derived from guest tables, by deleting a memslot that
  // no guest uses. KVM: kvm_arch_flush_shadow_memslot zaps all shadow pages.
  void zap_translations();

  int descriptor() const { return fd_; }
  unsigned vcpus() const { return vcpus_; }
  int vcpu_descriptor(unsigned vcpu) const { return cpus_[vcpu].fd; }

  using Call = StubCall;
  // Runs one stub to its end; loads from addresses without memslot see mmio_word.
  StubExit run(unsigned vcpu, const Call& call);

  // Runs stubs of 64-bit mode one after another without an exit between, but for those that the
  // access itself makes. words: linear addresses of the words to be read before and after each
  // call, in order; replaced by what was there. INVPCID finds its descriptor in the call. False if
  // it came to no regular end: the vCPU is not to be used any more.
  struct BatchedCall {
    StubCall call;
    unsigned before = 0, after = 0;
    std::uint64_t descriptor[2] = {};
  };
  bool run_batch(unsigned vcpu, std::span<const BatchedCall> calls, std::span<std::uint64_t> words,
                 std::vector<StubExit>& exits);

  // Sets CR3 and CR4 from outside, as KVM_SET_SREGS does: for callers that own the whole linear
  // space.
  void set_paging(unsigned vcpu, std::uint64_t cr3, std::uint64_t cr4);
  // The control registers as the last exit left them.
  const kvm_sregs& sregs(unsigned vcpu) const { return cpus_[vcpu].run->s.regs.sregs; }

  // Linear address of a window page (two adjacent ones if `pair`) through which CPL 0 stores to
  // guest frame `gfn` (and the next) in that paging mode. 0 when the window is full, or if the mode
  // does not reach the frame. Entries are never changed once present, so that no flush is owed.
  // `reads`: one that only loads go through, which leaves no page dirty.
  std::uint64_t window(Mode mode, std::uint64_t gfn, bool pair, bool reads = false);

  // Where the descriptor of INVPCID is to be put (host view) and found (linear address).
  std::uint64_t* invpcid_descriptor(unsigned vcpu);
  std::uint64_t invpcid_linear(unsigned vcpu) const;

  // A page of the harness (layout.h), as the host sees it.
  std::uint64_t* harness_words(unsigned page) { return memory_ + page * (kPage / 8); }

  // Lets the vCPU use VMRUN, for which its registers and CPUID have to have EFER.SVME. 0 or errno.
  int allow_vmrun(unsigned vcpu);
  // Whether what the vCPU runs next is 64-bit code: after it has gone from a hypervisor to its
  // guest, or back.
  void set_code(unsigned vcpu, bool long_mode) { cpus_[vcpu].long_mode = long_mode; }
  // An NMI is pending, or none.
  void set_nmi(unsigned vcpu, bool pending);
  // Gives it the TSS of such code. VMRUN leaves TR as it is: a hypervisor that needs none lends its
  // own to the guest.
  void set_task(unsigned vcpu, bool long_mode);

 private:
  struct Cpu {
    int fd = -1;
    kvm_run* run = nullptr;
    DirtyRing ring;
    std::uint8_t cpl = 0;  // as the vCPU is now
    bool long_mode = true;
    std::array<std::uint32_t, TWINWALK_KVM_XSAVE_WORDS> initial_fpu;  // and PKRU
    kvm_sregs initial_sregs;
  };
  struct WindowEntry {
    std::uint64_t gfn;
    bool pair, reads;
    unsigned page;
  };

  Vm() = default;
  bool add_harness(const Layout& layout);
  bool start_vcpu(unsigned index, const Registers& registers, std::string& why);
  bool add_vcpu(const Host& host, const Machine& machine, const Registers& registers,
                unsigned index, std::string& why);
  void remove(Cpu& cpu);
  void choose_log(const Machine& machine);
  bool enable(std::uint32_t capability, std::uint64_t argument) const;  // KVM_ENABLE_CAP
  // Moves what the rings hold to dirty_; how many pages.
  unsigned empty_rings();
  // Runs the vCPU up to its next OUT.
  void run_to_out(Cpu& cpu, StubExit& out, std::vector<StubExit>* batch = nullptr);
  BatchPage& batch_page() {
    return *reinterpret_cast<BatchPage*>(harness_words(harness_page::kBatch));
  }
  void read_exception(unsigned index, StubExit& out);
  void begin_64(unsigned index, const Call& call);
  void begin_32(unsigned index, const Call& call);
  bool is_in_user_code(const Cpu& cpu, std::uint64_t rip) const;

  Layout layout_;
  bool svm_ = false;
  int fd_ = -1;
  std::size_t run_bytes_ = 0;
  LogKind log_kind_ = LogKind::kBitmap;
  std::uint32_t ring_bytes_ = 0;
  std::vector<DirtyPage> dirty_;     // taken from the rings
  std::uint64_t* memory_ = nullptr;  // the harness pages
  std::array<Cpu, kMaxVcpus> cpus_{};
  unsigned vcpus_ = 0, vcpus_ever_ = 0;
  std::uint64_t memslots_ = 0;  // that there are, a bit each
  WindowEntry window_[kWindowPages];
  unsigned window_entries_ = 0, window_used_ = 0;
  Watchdog watchdog_;
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_VM_H_
