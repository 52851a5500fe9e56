#ifndef TWINWALK_FUZZERS_PHRASES_H_
#define TWINWALK_FUZZERS_PHRASES_H_

// Operations by name, as the generator says them. Fields that a phrase does not take keep their
// defaults.

#include <cstdint>

#include "harness/trace/op.h"

namespace twinwalk::fuzz::phrase {

Op access(AccessKind kind, std::uint64_t gva, std::uint64_t size = 8);
Op access_at(AccessKind kind, std::uint64_t gva, std::uint64_t size, std::uint8_t cpl);
Op implicit_access(AccessKind kind, std::uint64_t gva);
Op store(std::uint64_t gva, std::uint64_t value,
         std::uint64_t size = 8);  // a native write of that value
Op write(std::uint64_t gpa, std::uint64_t value, std::uint64_t size, Writer by);
Op mov(Reg reg, std::uint64_t value);
Op map(std::uint64_t gva, std::uint64_t gpa, unsigned level);  // level 1..3
Op invlpg(std::uint64_t gva);
Op invpcid(std::uint64_t type, std::uint64_t pcid, std::uint64_t gva);

// Of a hypervisor: levels as of map; `bits` those of the last entry.
Op npt_map(std::uint64_t ngpa, std::uint64_t gpa, unsigned level, std::uint64_t root,
           std::uint64_t bits);
Op vm_enter(std::uint64_t root, std::uint64_t asid, std::uint64_t tlb_control);
Op vm_exit();

Op sregs(std::uint64_t cr0, std::uint64_t cr3, std::uint64_t cr4, std::uint64_t efer);
Op get(Reg reg);
Op invlpga(std::uint64_t gva, std::uint64_t asid);
Op smm(bool enter);
Op init(bool reset);
Op new_vcpu();
Op cpuid(std::uint32_t features);
Op cpuid_width(unsigned maxphyaddr);
Op of_smm(Op of_a_slot);  // the same in SMM's address space

Op slot_add(std::uint64_t slot, std::uint64_t gpa, std::uint64_t pages, std::uint64_t hva,
            std::uint64_t flags);
Op slot_delete(std::uint64_t slot);
Op slot_move(std::uint64_t slot, std::uint64_t gpa);
Op slot_flags(std::uint64_t slot, std::uint64_t flags);
Op host_range(Verb verb, std::uint64_t hva, std::uint64_t pages);  // invalidate, remap, age
Op protect(std::uint64_t hva, std::uint64_t pages, bool writable);
Op huge(Verb verb, std::uint64_t hva);  // huge-split, huge-collapse
Op dirty_get(std::uint64_t slot);
Op track(std::uint64_t gpa, bool on);
Op dirty_clear(std::uint64_t slot, std::uint64_t gpa, std::uint64_t pages);
Op attributes(std::uint64_t gpa, std::uint64_t pages, bool is_private);
Op prefault(std::uint64_t gpa, std::uint64_t pages);
Op nx_recover(std::uint64_t pages);
Op reclaim(std::uint64_t pages);
Op zap_all();
Op quota(std::uint64_t pages);
Op fail_alloc(std::uint64_t after, std::uint64_t count);

}  // namespace twinwalk::fuzz::phrase

#endif  // TWINWALK_FUZZERS_PHRASES_H_
