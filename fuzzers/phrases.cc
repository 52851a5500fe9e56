#include "fuzzers/phrases.h"

#include <initializer_list>

#include "harness/trace/schema.h"

namespace twinwalk::fuzz::phrase {
namespace {

struct Said {
  Field field;
  std::uint64_t value;
};

Op say(Verb verb, std::initializer_list<Said> fields) {
  Op op = make_op(verb);
  for (const Said& f : fields) set(op, f.field, f.value);
  return op;
}

}  // namespace

Op access(AccessKind kind, std::uint64_t gva, std::uint64_t size) {
  return say(
      Verb::kAccess,
      {{Field::kKind, static_cast<std::uint64_t>(kind)}, {Field::kGva, gva}, {Field::kSize, size}});
}
Op access_at(AccessKind kind, std::uint64_t gva, std::uint64_t size, std::uint8_t cpl) {
  Op op = access(kind, gva, size);
  set(op, Field::kCpl, cpl);
  return op;
}
Op implicit_access(AccessKind kind, std::uint64_t gva) {
  Op op = access(kind, gva);
  set(op, Field::kImplicit, 1);
  return op;
}
Op store(std::uint64_t gva, std::uint64_t value, std::uint64_t size) {
  Op op = access(AccessKind::kWrite, gva, size);
  set(op, Field::kValue, value);
  return op;
}
Op write(std::uint64_t gpa, std::uint64_t value, std::uint64_t size, Writer by) {
  return say(Verb::kWrite, {{Field::kGpa, gpa},
                            {Field::kValue, value},
                            {Field::kSize, size},
                            {Field::kBy, static_cast<std::uint64_t>(by)}});
}
Op mov(Reg reg, std::uint64_t value) {
  return say(Verb::kMov, {{Field::kKind, static_cast<std::uint64_t>(reg)}, {Field::kValue, value}});
}
Op map(std::uint64_t gva, std::uint64_t gpa, unsigned level) {
  return say(Verb::kMap, {{Field::kGva, gva}, {Field::kGpa, gpa}, {Field::kSize, level}});
}
Op invlpg(std::uint64_t gva) { return say(Verb::kInvlpg, {{Field::kGva, gva}}); }
Op invpcid(std::uint64_t type, std::uint64_t pcid, std::uint64_t gva) {
  return say(Verb::kInvpcid, {{Field::kType, type}, {Field::kPcid, pcid}, {Field::kGva, gva}});
}

Op npt_map(std::uint64_t ngpa, std::uint64_t gpa, unsigned level, std::uint64_t root,
           std::uint64_t bits) {
  return say(Verb::kNptMap, {{Field::kGva, ngpa},
                             {Field::kGpa, gpa},
                             {Field::kSize, level},
                             {Field::kCr3, root},
                             {Field::kPte, bits}});
}
Op vm_enter(std::uint64_t root, std::uint64_t asid, std::uint64_t tlb_control) {
  return say(Verb::kVmEnter,
             {{Field::kValue, root}, {Field::kPcid, asid}, {Field::kType, tlb_control}});
}
Op vm_exit() { return say(Verb::kVmExit, {}); }

Op sregs(std::uint64_t cr0, std::uint64_t cr3, std::uint64_t cr4, std::uint64_t efer) {
  return say(Verb::kSregs,
             {{Field::kCr0, cr0}, {Field::kCr3, cr3}, {Field::kCr4, cr4}, {Field::kEfer, efer}});
}
Op get(Reg reg) { return say(Verb::kGet, {{Field::kKind, static_cast<std::uint64_t>(reg)}}); }
Op invlpga(std::uint64_t gva, std::uint64_t asid) {
  return say(Verb::kInvlpga, {{Field::kGva, gva}, {Field::kValue, asid}});
}
Op smm(bool enter) { return say(Verb::kSmm, {{Field::kValue, enter ? 1u : 0u}}); }
Op init(bool reset) { return say(Verb::kInit, {{Field::kType, reset ? 1u : 0u}}); }
Op new_vcpu() { return make_op(Verb::kNewVcpu); }
Op cpuid(std::uint32_t features) { return say(Verb::kCpuid, {{Field::kFlags, features}}); }
Op cpuid_width(unsigned maxphyaddr) { return say(Verb::kCpuid, {{Field::kValue, maxphyaddr}}); }
Op of_smm(Op of_a_slot) {
  set(of_a_slot, Field::kSpace, 1);
  return of_a_slot;
}

Op slot_add(std::uint64_t slot, std::uint64_t gpa, std::uint64_t pages, std::uint64_t hva,
            std::uint64_t flags) {
  return say(Verb::kSlotAdd, {{Field::kSlot, slot},
                              {Field::kGpa, gpa},
                              {Field::kPages, pages},
                              {Field::kHva, hva},
                              {Field::kFlags, flags}});
}
Op slot_delete(std::uint64_t slot) { return say(Verb::kSlotDelete, {{Field::kSlot, slot}}); }
Op slot_move(std::uint64_t slot, std::uint64_t gpa) {
  return say(Verb::kSlotMove, {{Field::kSlot, slot}, {Field::kGpa, gpa}});
}
Op slot_flags(std::uint64_t slot, std::uint64_t flags) {
  return say(Verb::kSlotFlags, {{Field::kSlot, slot}, {Field::kFlags, flags}});
}
Op host_range(Verb verb, std::uint64_t hva, std::uint64_t pages) {
  return say(verb, {{Field::kHva, hva}, {Field::kPages, pages}});
}
Op protect(std::uint64_t hva, std::uint64_t pages, bool writable) {
  return say(Verb::kProtect,
             {{Field::kHva, hva}, {Field::kPages, pages}, {Field::kValue, writable ? 1u : 0u}});
}
Op huge(Verb verb, std::uint64_t hva) { return say(verb, {{Field::kHva, hva}}); }
Op dirty_get(std::uint64_t slot) { return say(Verb::kDirtyGet, {{Field::kSlot, slot}}); }
Op track(std::uint64_t gpa, bool on) {
  return say(Verb::kTrack, {{Field::kGpa, gpa}, {Field::kValue, on ? 1u : 0u}});
}
Op dirty_clear(std::uint64_t slot, std::uint64_t gpa, std::uint64_t pages) {
  return say(Verb::kDirtyClear, {{Field::kSlot, slot}, {Field::kGpa, gpa}, {Field::kPages, pages}});
}
Op attributes(std::uint64_t gpa, std::uint64_t pages, bool is_private) {
  return say(Verb::kAttributes,
             {{Field::kGpa, gpa}, {Field::kPages, pages}, {Field::kValue, is_private ? 1u : 0u}});
}
Op prefault(std::uint64_t gpa, std::uint64_t pages) {
  return say(Verb::kPrefault, {{Field::kGpa, gpa}, {Field::kPages, pages}});
}
Op nx_recover(std::uint64_t pages) { return say(Verb::kNxRecover, {{Field::kPages, pages}}); }
Op reclaim(std::uint64_t pages) { return say(Verb::kReclaim, {{Field::kPages, pages}}); }
Op zap_all() { return say(Verb::kZapAll, {}); }
Op quota(std::uint64_t pages) { return say(Verb::kQuota, {{Field::kPages, pages}}); }
Op fail_alloc(std::uint64_t after, std::uint64_t count) {
  return say(Verb::kFailAlloc, {{Field::kAfter, after}, {Field::kCountField, count}});
}

}  // namespace twinwalk::fuzz::phrase
