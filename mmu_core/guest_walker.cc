#include "mmu_core/guest_walker.h"

namespace mmu {
namespace {

using Result = GuestMemory::Result;

enum class Step : u8 { kGoOn, kFault, kRestart };

class Walker {
 public:
  Walker(GuestMemory& memory, const WalkContext& context, const CpuRegisters& regs, Gva gva,
         AccessRequest request, GuestWalk& walk)
      : memory_(memory),
        context_(context),
        regs_(regs),
        gva_(gva),
        request_(request),
        walk_(walk) {}

  void run(AdUpdate ad) {
    Step step;
    while ((step = attempt(ad)) == Step::kRestart) walk_ = GuestWalk{};
    walk_.ok = step == Step::kGoOn;
  }

 private:
  Step attempt(AdUpdate ad) {
    Step step = descend();
    if (step == Step::kGoOn) step = check_rights();
    if (step == Step::kGoOn && ad == AdUpdate::kYes) step = set_accessed_dirty();
    return step;
  }

  Step fault(u32 code) {
    walk_.error_code = code | request_code(context_, request_);
    return Step::kFault;
  }

  Step no_table(Result why) {
    walk_.slot_leaves = why == Result::kSlotLeaves;
    return fault(0);
  }

  // Reads entries from the root to the leaf; presence and reserved bits are checked entry by entry.
  Step descend() {
    const PagingMode& mode = *context_.mode;
    Gfn table;
    if (mode.kind == Paging::kNone) return identity();
    if (const Step step = root_table(table); step != Step::kGoOn) return step;
    u8 access = acc::kAll;
    for (unsigned level = walk_.top;; --level) {
      const unsigned at = level - 1;
      walk_.level = static_cast<u8>(level);
      walk_.table[at] = table;
      walk_.entry_gpa[at] = table.base() + u64{index_of(mode, level, gva_)} * mode.entry_bytes;
      u64& entry = walk_.entry[at];
      const Result read = memory_.read(walk_.entry_gpa[at], mode.entry_bytes, entry);
      if (read != Result::kOk) return no_table(read);
      if (!(entry & pte::kP)) return fault(0);
      if (context_.reserved.violates(entry, level)) return fault(pfec::kP | pfec::kRsvd);
      access &= entry_access(entry, context_.nx);
      walk_.access_through[at] = access;
      // PS where a page cannot be mapped is among the reserved bits.
      if (context_.maps_page(entry, level)) break;
      table = Gfn{(entry & pte::kAddress) >> 12};
    }
    finish_leaf(access);
    return Step::kGoOn;
  }

  // Where the walk begins, and at which level.
  Step root_table(Gfn& table) {
    walk_.top = context_.mode->levels;
    switch (context_.mode->kind) {
      case Paging::k32Bit:
        table = Gfn{(regs_.cr3 & cr3::kTable32) >> 12};
        return Step::kGoOn;
      case Paging::kPae: {
        walk_.level = walk_.top--;
        const u64 pdpte = regs_.pdpte[index_of(kPae, 3, gva_)];
        if (!(pdpte & pte::kP)) return fault(0);
        // Never on Intel, where such a value is not loaded (pdptes.cc).
        if (pdpte & context_.pdpte_reserved) return fault(pfec::kP | pfec::kRsvd);
        table = Gfn{(pdpte & pte::kAddress) >> 12};
        return Step::kGoOn;
      }
      default:
        table = Gfn{(regs_.cr3 & cr3::kTable) >> 12};
        return Step::kGoOn;
    }
  }

  Step identity() {
    walk_.level = 2;
    walk_.entry[1] = pte::kP | pte::kW | pte::kU | pte::kA | pte::kD;
    walk_.gfn = Gfn{gva_.raw >> 12};
    walk_.access = acc::kAll;
    return Step::kGoOn;
  }

  void finish_leaf(u8 access) {
    const PagingMode& mode = *context_.mode;
    const u64 leaf = walk_.entry[walk_.level - 1];
    const unsigned offset_bits = mode.level[walk_.level - 1].index_lo;
    const u64 page_in_leaf = (gva_.raw & (bit(offset_bits) - 1)) >> 12;
    walk_.gfn = leaf_gfn(leaf, walk_.level, mode.entry_bytes == 4) + page_in_leaf;
    walk_.access = access;
    walk_.pkey = pte::Pkey::get(leaf);
  }

  Step check_rights() {
    const u32 code = permission_fault(context_, regs_, walk_.access, walk_.pkey, request_);
    return code ? fault(code) : Step::kGoOn;
  }

  // A in every entry that was used, D in the leaf if it is written through. Root first, as KVM
  // does: an entry that is found changed is read again with the whole path.
  Step set_accessed_dirty() {
    for (unsigned level = walk_.top; level >= walk_.level; --level) {
      u64& entry = walk_.entry[level - 1];
      u64 wanted = entry | pte::kA;
      if (level == walk_.level && request_.write) wanted |= pte::kD;
      if (wanted == entry) continue;
      const Result set = memory_.compare_exchange(walk_.entry_gpa[level - 1],
                                                  context_.mode->entry_bytes, entry, wanted);
      switch (set) {
        case Result::kOk:
          entry = wanted;
          break;
        case Result::kRaced:
          return Step::kRestart;
        case Result::kNoSlot:
        case Result::kSlotLeaves:
        case Result::kReadOnly:
        case Result::kNoFrame:
          return no_table(set);
      }
    }
    return Step::kGoOn;
  }

  GuestMemory& memory_;
  const WalkContext& context_;
  const CpuRegisters& regs_;
  const Gva gva_;
  const AccessRequest request_;
  GuestWalk& walk_;
};

}  // namespace

GuestWalk walk_guest(GuestMemory& memory, const WalkContext& context, const CpuRegisters& regs,
                     Gva gva, AccessRequest request, AdUpdate ad) {
  GuestWalk walk;
  Walker(memory, context, regs, gva, request, walk).run(ad);
  return walk;
}

bool walk_still_holds(GuestMemory& memory, const WalkContext& context, const GuestWalk& walk,
                      unsigned level) {
  constexpr u64 kAccessedDirty = pte::kA | pte::kD;
  for (unsigned l = walk.top; l >= level; --l) {
    u64 now = 0;
    if (memory.read(walk.entry_gpa[l - 1], context.mode->entry_bytes, now) != Result::kOk) {
      return false;
    }
    const u64 gained = now & kAccessedDirty;
    if ((now ^ walk.entry[l - 1]) & ~gained) return false;
  }
  return true;
}

u8 entry_access(u64 entry, bool nx) {
  u8 access = 0;
  if (entry & pte::kW) access |= acc::kW;
  if (entry & pte::kU) access |= acc::kU;
  if (!nx || !(entry & pte::kXd)) access |= acc::kX;
  return access;
}

Gfn leaf_gfn(u64 entry, unsigned level, bool four_byte) {
  if (four_byte && level == 2) {
    constexpr u64 kHigh = bits(13, 20);  // of the entry: bits 39:32 of the address
    return Gfn{(entry & bits(22, 31)) >> 12 | (entry & kHigh) >> 13 << 20};
  }
  return Gfn{((entry & pte::kAddress) >> 12) & ~(pages_of_level(level) - 1)};
}

}  // namespace mmu
