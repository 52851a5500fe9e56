// Address spaces come and go: roots that are kept and found again, PCIDs and what ends them, CR3's
// other bits; roots that are loaded while there is hardly room, or none.

#include "fuzzers/idioms.h"
#include "fuzzers/phrases.h"
#include "fuzzers/pools.h"
#include "harness/trace/schema.h"

namespace twinwalk::fuzz {
namespace {

// The table below the uppermost entry of `gva`, under `root` as well, and so the direct map.
void share_under(Sketch& s, std::uint64_t root, std::uint64_t gva) {
  for (const std::uint64_t at : {gva, direct_map(s.mode())}) {
    const Survey::Entry top = s.walk(at).entry[0];
    s.say(phrase::write(root + (top.gpa - top.table), top.value, top.bytes, Writer::kGuest));
  }
}

// More roots than are kept share a table that goes unsync under one of them; another mode comes
// between; each is visited again, with and without a flush.
void keep_roots(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  s.need_direct_map(0x1000);
  const Registers old = s.registers();
  const bool pcide = old.cr4 & cr4::kPcide;
  const unsigned roots = 2 + s.rng().below(4);
  for (unsigned i = 0; i < roots; ++i)
    if (kRoots[i] != s.root()) share_under(s, kRoots[i], gva);
  const auto visit = [&](unsigned i, bool keep) {
    s.say(phrase::mov(Reg::kCr3, kRoots[i] | (pcide ? s.rng().below(2) : 0) |
                                     (pcide && keep ? cr3::kNoFlush : 0)));
    s.touch(gva);
  };
  for (unsigned i = 0; i < roots; ++i) visit(i, false);
  const Survey::Entry e = s.entry_of(gva);
  s.deliver_native(e.gpa, s.changed(e));
  if (s.rng().flip()) s.deliver_native(e.gpa, s.changed(e));
  if (s.rng().chance(1, 3)) {
    const Registers here = s.registers();
    if (s.enter(static_cast<Mode>(s.rng().below(5)))) {
      if (s.rng().flip()) s.touch(s.pool_gva());
      if (s.rng().flip()) s.deliver(e.gpa, s.changed(e));
      s.say(phrase::sregs(here.cr0, here.cr3, here.cr4, here.efer));
    }
  }
  for (unsigned i = 0; i < 2 + s.rng().below(3); ++i) visit(s.rng().below(roots), s.rng().flip());
  if (s.rng().flip()) s.invalidate(gva);
  s.say(phrase::mov(Reg::kCr3, old.cr3));
  s.touch(gva);
}

// A table that only another root uses is edited from here; an invalidation may come, PCIDs may
// begin or end; then that root comes back, by a load that flushes or one that does not.
void edit_under_other_root(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva(), other = s.other_root();
  if (s.long_mode() && s.machine().has(feature::kPcid) && s.rng().flip()) {
    s.say(phrase::mov(Reg::kCr3, s.root()));
    s.say(phrase::mov(Reg::kCr4, s.registers().cr4 | cr4::kPcide));
  }
  const std::uint64_t old = s.registers().cr3;
  s.warm(gva);
  const Survey::Entry e = s.entry_of(gva);
  const auto tag = [&](std::uint64_t of) {
    return s.registers().cr4 & cr4::kPcide ? of & cr3::kPcidMask : 0;
  };
  const auto perhaps_kept = [&] {
    return s.registers().cr4 & cr4::kPcide && s.rng().chance(3, 4) ? cr3::kNoFlush : 0;
  };
  s.say(phrase::mov(Reg::kCr3,
                    other | tag(s.rng().flip() ? old : s.rng().pick(kPcids)) | perhaps_kept()));
  if (s.rng().flip()) s.map(gva);
  if (s.rng().flip()) s.touch(gva);
  s.deliver_native(e.gpa, e.value | (e.pdpte_of_pae ? 0 : pte::kA));
  s.deliver_native(e.gpa, s.changed(e));
  switch (s.rng().below(6)) {
    case 0:
      s.say(phrase::mov(Reg::kCr3, other));
      break;
    case 1:
      s.say(phrase::mov(Reg::kCr3, other));
      s.say(phrase::mov(Reg::kCr4, s.registers().cr4 ^ cr4::kPcide));
      break;
    case 2:
      s.say(phrase::invpcid(s.rng().below(4), tag(old), gva));
      break;
    case 3:
      s.say(phrase::invlpg(gva));
      break;
    case 4:
      s.say(phrase::mov(Reg::kCr4, s.registers().cr4 ^ cr4::kPge));
      break;
    default:
      break;
  }
  s.say(phrase::mov(Reg::kCr3, (old & ~cr3::kPcidMask) | tag(old) | perhaps_kept()));
  s.touch(gva);
  s.touch(gva ^ kPage);
  s.invalidate(gva);
  s.touch(gva);
}

// CR3 with everything that is not the table's address: PCIDs or cache bits, bits 61 and 62, bit 63
// with and without PCIDs, reserved ones.
void bits_of_cr3(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva(), root = s.root();
  s.warm(gva);
  for (unsigned i = 0; i < 2 + s.rng().below(3); ++i) {
    std::uint64_t extra = 0;
    switch (s.rng().below(6)) {
      case 0:
        extra = s.rng().pick(kPcids);
        break;
      case 1:
        extra = bit(3 + s.rng().below(2));
        break;
      case 2:
        extra = bit(61 + s.rng().below(2));
        break;
      case 3:
        extra = cr3::kNoFlush | s.rng().pick(kPcids);
        break;
      case 4:
        extra = bit(s.machine().maxphyaddr) << s.rng().below(3);
        break;
      default:
        extra = s.rng().below(32);
        break;
    }
    s.say(phrase::mov(Reg::kCr3, root | extra));
    s.touch(gva);
    if (s.rng().flip()) continue;
    const Survey::Entry e = s.entry_of(gva);
    s.deliver(e.gpa, s.changed(e));
    if (s.rng().flip()) s.touch(gva);
  }
  s.say(phrase::mov(Reg::kCr3, root));
  s.touch(gva);
}

// PCIDs and global pages are turned on and off around edits, by the rules and against them.
void pcids_begin_and_end(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  const std::uint64_t root = s.root();
  s.warm(gva);
  for (unsigned i = 0; i < 3 + s.rng().below(3); ++i) {
    const std::uint64_t cr4 = s.registers().cr4;
    switch (s.rng().below(5)) {
      case 0:
        s.say(phrase::mov(Reg::kCr4, cr4 ^ cr4::kPge));
        break;
      case 1:
      case 2:
        if (!(cr4 & cr4::kPcide) && s.rng().chance(3, 4)) s.say(phrase::mov(Reg::kCr3, root));
        s.say(phrase::mov(Reg::kCr4, cr4 ^ cr4::kPcide));
        break;
      case 3:
        s.say(phrase::mov(Reg::kCr3,
                          root | s.rng().pick(kPcids) | (s.rng().flip() ? cr3::kNoFlush : 0)));
        break;
      default: {
        const Survey::Entry e = s.entry_of(gva);
        s.deliver(e.gpa, s.rng().flip() ? e.value ^ pte::kG : s.changed(e));
        break;
      }
    }
    s.touch(gva);
  }
}

// INVPCID of each type, with operands that are right and wrong, after an edit that waits for it.
void invpcid_operands(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  const bool pcide = s.registers().cr4 & cr4::kPcide;
  const std::uint64_t here = pcide ? s.registers().cr3 & cr3::kPcidMask : 0;
  for (unsigned i = 0; i < 1 + s.rng().below(3); ++i) {
    s.warm(gva);
    const Survey::Entry e = s.walk(gva).last();
    s.deliver_native(e.gpa, s.changed(e));
    const std::uint64_t type = s.rng().chance(1, 8) ? 4 + s.rng().below(4) : s.rng().below(4);
    std::uint64_t pcid = here, at = gva;
    if (s.rng().chance(1, 4)) pcid = s.rng().pick(kPcids);
    if (s.rng().chance(1, 12)) pcid = 0x1000 << s.rng().below(4);
    if (s.rng().chance(1, 8)) at ^= bit(s.rng().flip() ? 48 : 57);
    if (s.rng().chance(1, 4)) at += s.rng().below(kPage);
    s.say(phrase::invpcid(type, pcid, at));
    s.touch(gva);
  }
}

// Hardly a shadow page is to be had while roots are loaded, in this mode and others.
void little_room(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  const Registers old = s.registers();
  s.say(phrase::quota(kMinQuota + s.rng().below(3)));
  if (s.rng().flip()) s.warm(gva);
  for (unsigned i = 0; i < 2 + s.rng().below(3); ++i) {
    switch (s.rng().below(4)) {
      case 0:
        s.enter(static_cast<Mode>(s.rng().below(5)));
        break;
      case 1:
        s.say(phrase::mov(Reg::kCr3, s.rng().pick(kRoots)));
        break;
      default:
        break;
    }
    for (unsigned n = 1 + s.rng().below(3); n > 0; --n) {
      const std::uint64_t at = s.pool_gva();
      if (s.rng().flip()) s.map(at);
      s.touch(at);
    }
  }
  s.say(phrase::sregs(old.cr0, old.cr3, old.cr4, old.efer));
  s.touch(gva);
  if (s.rng().flip()) s.say(phrase::quota(0));
  s.touch(gva);
}

// Everything is dropped, or the oldest is, while two vCPUs hold the root; then an edit, and both
// again. What is left of the old must not become part of the new.
void zap_root_in_use(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva(), cr3 = s.registers().cr3;
  const unsigned there = s.other_vcpu();
  s.warm(gva);
  s.on_vcpu(there, [&] {
    if (s.registers().cr3 != cr3) s.say(phrase::mov(Reg::kCr3, cr3));
    s.warm(gva);
  });
  for (unsigned i = 0; i < 1 + s.rng().below(3); ++i) {
    switch (s.rng().below(4)) {
      case 0:
        s.say(phrase::reclaim(1 + s.rng().below(64)));
        break;
      case 1: {
        const Survey::Entry e = s.entry_of(gva);
        s.deliver(e.gpa, s.changed(e));
        break;
      }
      default:
        s.say(phrase::zap_all());
        break;
    }
    if (s.rng().flip()) s.touch(s.rng().flip() ? gva : gva ^ kPage);
  }
  s.on_vcpu(there, [&] { s.touch(gva); });
  s.touch(gva);
}

// An allocation fails, at any step of whatever comes next.
void starve(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  const Registers old = s.registers();
  if (s.rng().flip()) s.warm(gva);
  if (s.rng().flip()) s.say(s.rng().flip() ? phrase::zap_all() : phrase::reclaim(64));
  s.say(phrase::fail_alloc(s.rng().below(12), 1 + s.rng().below(s.rng().flip() ? 2 : 8)));
  switch (s.rng().below(12)) {
    case 0:
      s.say(phrase::mov(Reg::kCr3, s.rng().pick(kRoots)));
      break;
    case 1:
      s.enter(static_cast<Mode>(s.rng().below(5)));
      break;
    case 2: {
      const Survey::Entry e = s.entry_of(gva);
      s.deliver(e.gpa, s.changed(e));
      break;
    }
    case 3:
      s.say(phrase::slot_flags(0, slot_flag::kLogDirty));
      s.touch(gva);
      s.say(phrase::dirty_get(0));
      break;
    case 4:
      s.say(phrase::slot_add(1 + s.rng().below(3), s.rng().pick(kSlotGpas),
                             s.rng().pick(kSlotPages), s.rng().pick(kSlotHvas), 0));
      break;
    case 5:
      s.say(phrase::slot_move(0, 0x10'0000'0000));
      s.say(phrase::slot_move(0, 0));
      break;
    case 6:
      s.say(phrase::smm(true));
      s.touch(gva);
      s.say(phrase::smm(false));
      break;
    case 7:
      s.say(s.rng().flip() ? phrase::new_vcpu() : phrase::init(s.rng().flip()));
      break;
    case 8:
      s.say(phrase::host_range(s.rng().flip() ? Verb::kRemap : Verb::kInvalidate, s.hva(), 1));
      break;
    case 9:
      s.say(phrase::mov(Reg::kCr4, s.registers().cr4 ^ cr4::kSmep));
      break;
    case 10:
      s.say(phrase::quota(kMinQuota));
      break;
    default:
      break;
  }
  s.touch(gva);
  s.touch(s.pool_gva());
  if (s.rng().flip()) s.say(phrase::sregs(old.cr0, old.cr3, old.cr4, old.efer));
  s.touch(gva);
  s.touch(s.mapped_gva());
}

constexpr Idiom kIdioms[] = {
    {"keep-roots", 3, keep_roots},
    {"edit-under-other-root", 3, edit_under_other_root},
    {"bits-of-cr3", 1, bits_of_cr3},
    {"pcids-begin-and-end", 2, pcids_begin_and_end},
    {"invpcid-operands", 2, invpcid_operands},
    {"little-room", 2, little_room},
    {"zap-root-in-use", 2, zap_root_in_use},
    {"starve", 2, starve},
};

}  // namespace

std::span<const Idiom> root_idioms() { return kIdioms; }

}  // namespace twinwalk::fuzz
