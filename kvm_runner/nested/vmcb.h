#ifndef TWINWALK_KVM_RUNNER_NESTED_VMCB_H_
#define TWINWALK_KVM_RUNNER_NESTED_VMCB_H_

// The block by which SVM's VMRUN is told of a guest. APM 2 §"Layout of VMCB": offsets in bytes.

#include <linux/kvm.h>

#include <cstdint>
#include <cstring>

namespace twinwalk::kvm {

namespace vmcb {

// Control area.
inline constexpr unsigned kIntercepts3 = 0x00c, kIntercepts4 = 0x010, kAsid = 0x058,
                          kTlbControl = 0x05c, kExitCode = 0x070, kExitInfo1 = 0x078,
                          kExitInfo2 = 0x080, kExitIntInfo = 0x088, kNestedControl = 0x090,
                          kNestedCr3 = 0x0b0;
// State-save area. A segment is selector, attributes, limit and base: 2, 2, 4 and 8 bytes.
inline constexpr unsigned kEs = 0x400, kCs = 0x410, kSs = 0x420, kDs = 0x430, kGdtr = 0x460,
                          kIdtr = 0x480, kCpl = 0x4cb, kEfer = 0x4d0, kCr4 = 0x548, kCr3 = 0x550,
                          kCr0 = 0x558, kDr7 = 0x560, kDr6 = 0x568, kRflags = 0x570, kRip = 0x578,
                          kRsp = 0x5d8, kRax = 0x5f8, kPat = 0x668;

inline constexpr std::uint32_t kInterceptNmi = 1u << 1,
                               kInterceptShutdown = 1u << 31;  // in kIntercepts3
inline constexpr std::uint32_t kInterceptVmrun = 1u << 0, kInterceptVmmcall = 1u << 1;
inline constexpr std::uint64_t kNestedPaging = 1;  // in kNestedControl
inline constexpr std::uint64_t kPatAtReset = 0x0007'0406'0007'0406;

// APM 2 §"SVM Intercept Codes". VMEXIT_INVALID is -1: KVM gives a hypervisor in the VM its lower
// half only, and all others fit into that.
inline constexpr std::uint32_t kExitNmi = 0x61, kExitShutdown = 0x7f, kExitVmmcall = 0x81,
                               kExitNestedFault = 0x400, kExitInvalid = ~std::uint32_t{0};

}  // namespace vmcb

class Vmcb {
 public:
  explicit Vmcb(void* page) : page_(static_cast<unsigned char*>(page)) {}

  template <class T>
  void put(unsigned offset, T value) {
    std::memcpy(page_ + offset, &value, sizeof(value));
  }
  template <class T>
  T get(unsigned offset) const {
    T value;
    std::memcpy(&value, page_ + offset, sizeof(value));
    return value;
  }

  void put_segment(unsigned offset, const kvm_segment& s) {
    const unsigned attributes = s.type | s.s << 4 | s.dpl << 5 | s.present << 7 | s.avl << 8 |
                                s.l << 9 | s.db << 10 | s.g << 11;
    put(offset, s.selector);
    put(offset + 2, static_cast<std::uint16_t>(attributes));
    put(offset + 4, std::uint32_t{s.limit});
    put(offset + 8, std::uint64_t{s.base});
  }
  void put_table(unsigned offset, const kvm_dtable& table) {
    put(offset + 4, std::uint32_t{table.limit});
    put(offset + 8, std::uint64_t{table.base});
  }

 private:
  unsigned char* page_;
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_NESTED_VMCB_H_
