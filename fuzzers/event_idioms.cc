// What happens to whole vCPUs between accesses: SMM in and out, INIT, other capabilities, a vCPU
// made anew; each while tables are shadowed and roots are cached.

#include "fuzzers/idioms.h"
#include "fuzzers/phrases.h"
#include "fuzzers/pools.h"

namespace twinwalk::fuzz {
namespace {

// Backing of SMRAM, which nothing else shows.
constexpr std::uint64_t kSmramHva = kHvaBase + 0x3000'0000;

// Perhaps the entry changes; perhaps that is followed by an invalidation.
void edit(Sketch& s, std::uint64_t gva) {
  if (s.rng().flip()) return;
  const Survey::Entry e = s.entry_of(gva);
  s.deliver(e.gpa, s.changed(e));
  if (s.rng().flip()) s.invalidate(gva);
}

// SMM in and out between accesses, with edits on either side.
void through_smm(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  s.warm(gva);
  for (unsigned round = 0; round < 1 + s.rng().below(2); ++round) {
    s.say(phrase::smm(true));
    s.touch(gva);
    edit(s, gva);
    s.touch(gva);
    if (s.rng().chance(1, 4)) s.touch(s.mapped_gva());
    s.say(phrase::smm(false));
    s.touch(gva);
    edit(s, gva);
  }
  s.touch(gva);
}

// SMRAM over a frame, or over the tables themselves; it comes and goes while one vCPU is inside.
void smram(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  std::uint64_t at = s.rng().flip() ? s.frame() : s.table_frame();
  if (at >= s.machine().memory_bytes()) at = s.frame();  // an entry with a reserved bit says so
  const std::uint64_t pages = s.rng().chance(3, 4) ? 1 : 4;
  s.warm(gva);
  const bool inside_already = s.rng().flip();
  if (inside_already) {
    s.say(phrase::smm(true));
    s.touch(gva);
  }
  s.say(phrase::of_smm(phrase::slot_delete(0)));
  if (s.rng().flip()) s.touch(gva);
  // What lies below is memory as for everybody, and what lies above.
  if (at != 0) s.say(phrase::of_smm(phrase::slot_add(0, 0, at / kPage, kHvaBase, 0)));
  const std::uint64_t above = at + pages * kPage;
  s.say(phrase::of_smm(phrase::slot_add(1, at, pages, kSmramHva, s.rng().below(4))));
  if (above < s.machine().memory_bytes()) {
    s.say(phrase::of_smm(phrase::slot_add(2, above, (s.machine().memory_bytes() - above) / kPage,
                                          kHvaBase + above, 0)));
  }
  if (!inside_already) s.say(phrase::smm(true));
  s.touch(gva);
  s.touch(gva);
  if (s.rng().flip()) s.say(phrase::host_range(Verb::kRemap, kSmramHva, pages));
  if (s.rng().flip()) s.say(phrase::of_smm(phrase::dirty_get(1)));
  edit(s, gva);
  s.touch(gva);
  s.say(phrase::smm(false));
  s.touch(gva);
  for (unsigned slot = 0; slot < 3; ++slot) s.say(phrase::of_smm(phrase::slot_delete(slot)));
  if (s.rng().flip()) {
    s.say(phrase::smm(true));
    s.touch(gva);
    s.say(phrase::smm(false));
  }
  s.say(phrase::of_smm(phrase::slot_add(0, 0, s.machine().memory_bytes() / kPage, kHvaBase, 0)));
  s.touch(gva);
}

// INIT or RESET with roots loaded, then on without paging, then back to where it was.
void init(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva(), other = s.other_root();
  const Registers was = s.registers();
  s.warm(gva);
  if (s.rng().flip()) {
    s.say(phrase::mov(Reg::kCr3, other));
    s.touch(gva);
  }
  if (s.rng().chance(1, 4)) s.say(phrase::smm(true));
  s.say(phrase::init(s.rng().flip()));
  s.say(phrase::get(s.rng().flip() ? Reg::kCr0 : Reg::kCr3));
  s.touch(gva);
  s.touch(s.frame());
  if (s.rng().chance(1, 4)) return;
  s.say(phrase::sregs(was.cr0, was.cr3, was.cr4, was.efer));
  edit(s, gva);
  s.touch(gva);
}

// Capabilities change under what is mapped: a width, a size of pages, a bit of the entries.
void change_cpuid(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  const std::uint32_t features = s.machine().features;
  const unsigned width = s.machine().maxphyaddr;
  switch (s.rng().below(4)) {
    case 0: {
      const Survey::Entry e = s.entry_of(gva);
      s.deliver(e.gpa, e.value | bit(width - 1) | pte::kA);
      s.touch(gva);
      s.say(phrase::cpuid_width(width - 1 >= 36 ? width - 1 : 36));
      break;
    }
    case 1: {
      const std::uint64_t large = gva & ~(bit(30) - 1);
      s.map_large(large, 0, 3);
      s.touch(large);
      s.say(phrase::cpuid(features ^ feature::k1G));
      s.touch(large);
      break;
    }
    case 2:
      s.warm(gva);
      s.say(phrase::mov(Reg::kEfer, s.registers().efer & ~(efer::kNxe | efer::kLma)));
      s.say(phrase::cpuid(features & ~feature::kNx));
      break;
    default:
      s.warm(gva);
      s.say(phrase::cpuid(features ^ static_cast<std::uint32_t>(bit(s.rng().below(13)))));
      break;
  }
  s.touch(gva);
  edit(s, gva);
  s.touch(gva);
  if (s.rng().chance(1, 4)) return;
  s.say(phrase::cpuid(features));
  s.say(phrase::cpuid_width(width));
  s.touch(gva);
}

// One vCPU goes and comes while its roots are cached and others use the same tables.
void new_vcpu(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva(), other = s.other_root();
  const unsigned there = s.other_vcpu();
  s.warm(gva);
  s.on_vcpu(there, [&] { s.touch(gva); });
  if (s.rng().flip()) {
    s.say(phrase::mov(Reg::kCr3, other));
    s.touch(gva);
  }
  if (s.rng().chance(1, 3)) s.say(phrase::smm(true));
  if (s.rng().chance(1, 3)) s.say(s.rng().flip() ? phrase::zap_all() : phrase::reclaim(64));
  edit(s, gva);
  s.say(phrase::new_vcpu());
  if (s.rng().flip()) s.say(phrase::get(Reg::kCr3));
  s.touch(gva);
  s.on_vcpu(there, [&] { s.touch(gva); });
}

// An edit that only INVLPGA announces, with the guest's own ASID or another one.
void invlpga(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  if (s.rng().chance(3, 4)) s.say(phrase::mov(Reg::kEfer, s.registers().efer | efer::kSvme));
  s.warm(gva);
  const Survey::Entry e = s.entry_of(gva);
  s.deliver(e.gpa, s.changed(e));
  s.say(phrase::invlpga(gva, s.rng().chance(3, 4) ? 0 : 1 + s.rng().below(2)));
  s.touch(gva);
}

constexpr Idiom kIdioms[] = {
    {"through-smm", 2, through_smm},   {"smram", 2, smram},       {"init", 2, init},
    {"change-cpuid", 2, change_cpuid}, {"new-vcpu", 2, new_vcpu}, {"invlpga", 1, invlpga},
};

}  // namespace

std::span<const Idiom> event_idioms() { return kIdioms; }

}  // namespace twinwalk::fuzz
