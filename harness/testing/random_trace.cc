#include "harness/testing/random_trace.h"

#include "harness/trace/schema.h"

namespace twinwalk {
namespace {

constexpr std::uint64_t kDirectMap = 0xffff'8880'0000'0000;  // gpa 0..2M shows here once mapped
constexpr std::uint64_t kRoots[] = {kInitialCr3, kInitialCr3, 0x140000};

}  // namespace

void RandomTrace::next(const RandomTraceOptions& options, Trace& out) {
  out.clear();
  if (options.machines) machine(out.machine);
  if (options.modes) modes(out.machine);
  begin(out.machine);
  say(window(), out);
  while (out.ops.size() < options.operations) {
    vcpu_ = static_cast<std::uint8_t>(below(out.machine.vcpus));
    if (options.modes && one_in(12)) {
      change_mode(out);
    } else {
      say(options.host_events && one_in(8) ? host_op() : guest_op(), out);
      if (options.events && one_in(10)) say(event_op(), out);
    }
  }
}

void RandomTrace::begin(const Machine& machine) {
  machine_ = machine;
  for (FollowedRegisters& r : registers_) r.reset(machine);
  vcpu_ = 0;
}

void RandomTrace::say(Op op, Trace& out) {
  op.vcpu = vcpu_;
  if (op.verb == Verb::kMov) registers_[vcpu_].write(op.reg(), op.value);
  if (op.verb == Verb::kSregs) registers_[vcpu_].set(op);
  if (op.verb == Verb::kCpuid && op.gives(Field::kFlags))
    for (FollowedRegisters& r : registers_) r.set_features(static_cast<std::uint32_t>(op.flags));
  if (op.verb == Verb::kInit) registers_[vcpu_].init();
  if (op.verb == Verb::kNewVcpu) registers_[vcpu_].reset(machine_);
  out.ops.push_back(op);
}

Registers RandomTrace::usual() const {
  Machine m = machine_;
  m.mode = mode();
  return initial_registers(m);
}

// As a guest goes through the modes, or at once by the host.
void RandomTrace::change_mode(Trace& out) {
  Machine m = machine_;
  m.mode = static_cast<Mode>(below(5));
  Registers to = initial_registers(m);
  to.cr3 = pick(kRoots);
  if (m.mode == Mode::kPae) to.cr3 |= below(4) * 32;
  if (one_in(4)) {
    Op op = make_op(Verb::kSregs);
    set(op, Field::kCr0, to.cr0);
    set(op, Field::kCr3, to.cr3);
    set(op, Field::kCr4, to.cr4);
    set(op, Field::kEfer, to.efer);
    say(op, out);
    return say(window(), out);
  }
  const auto write = [&](Reg reg, std::uint64_t value) {
    Op op = make_op(Verb::kMov);
    set(op, Field::kKind, static_cast<std::uint64_t>(reg));
    set(op, Field::kValue, value);
    say(op, out);
  };
  const Registers now = usual();
  if (mode() != Mode::kNone) {
    if (one_in(2)) write(Reg::kCr4, now.cr4);  // PCIDE=1 would hold paging on
    write(Reg::kCr0, now.cr0 & ~cr0::kPg);
  }
  write(Reg::kCr4, to.cr4);
  write(Reg::kEfer, to.efer & ~efer::kLma);
  if (one_in(2)) write(Reg::kCr3, to.cr3);
  write(Reg::kCr0, to.cr0);
  say(window(), out);
}

// The guest's tables, for native stores to them. Outside long mode the low half of its address
// counts: 0.
Op RandomTrace::window() {
  Op op = make_op(Verb::kMap);
  set(op, Field::kGva, kDirectMap);
  set(op, Field::kGpa, 0);
  set(op, Field::kSize, 2);
  return op;
}

void RandomTrace::machine(Machine& m) {
  m.vcpus = one_in(3) ? 2 : 1;
  m.tlb = one_in(4) ? TlbPolicy::kSmall : one_in(8) ? TlbPolicy::kFresh : TlbPolicy::kStale;
  m.host_page_level = static_cast<std::uint8_t>(one_in(3) ? 1 + below(3) : 1);
  m.vendor = one_in(6) ? Vendor::kAmd : Vendor::kIntel;
  m.maxphyaddr = one_in(4) ? 36 : 40;
  if (one_in(6)) m.features &= ~static_cast<std::uint32_t>(bit(static_cast<unsigned>(below(12))));
  if (one_in(6)) m.options = static_cast<std::uint32_t>(below(option::kAll + 1));
  if (one_in(8)) m.quota = static_cast<std::uint16_t>(kMinQuota + below(24));
  reconcile(m);
}

void RandomTrace::modes(Machine& m) {
  m.mode = static_cast<Mode>(below(5));
  m.host_levels = static_cast<std::uint8_t>(3 + below(3));
  if (one_in(2)) m.features |= feature::kLa57;
  reconcile(m);
}

std::uint64_t RandomTrace::gva() {
  if (mode() != Mode::k4Level && mode() != Mode::kNone && one_in(2)) return gva_of_mode();
  constexpr std::uint64_t kPages[] = {0x400000,
                                      0x401000,
                                      0x402000,
                                      0x5ff000,
                                      0x600000,
                                      0x40000000,
                                      0x7fff'ffff'f000,
                                      kDirectMap + 0x5000,
                                      0x400000,
                                      0x401000,
                                      0xffff'ffff'ffff'f000,
                                      0xffff'8000'0000'0000};
  if (one_in(100)) return 0x8000'0000'0000;
  if (one_in(12)) return kDirectMap + table();
  return pick(kPages);
}

std::uint64_t RandomTrace::gva_of_mode() {
  // Both halves of a 4M region, every PDPTE, both ends; the PML5Es.
  constexpr std::uint64_t kLegacy[] = {0x40'0000,   0x60'0000,   0x4000'0000, 0x8020'1000,
                                       0xc000'0000, 0xc030'0000, 0xffff'f000, 0x1'0040'0000};
  constexpr std::uint64_t kWide[] = {0x0001'0000'0040'0000, 0x0000'8000'0000'0000,
                                     0xff00'0000'0000'0000, 0x00ff'ffff'ffff'f000,
                                     0x0100'0000'0000'0000};
  return mode() == Mode::k5Level ? pick(kWide) : pick(kLegacy);
}

std::uint64_t RandomTrace::gpa() {
  constexpr std::uint64_t kFrames[] = {0x5000,    0x6000,    0x7000,    0x8000,
                                       0x9000,    0x200000,  0x400000,  0x3fff000,
                                       0x8000000, 0x9000000, 0x40000000};
  return one_in(10) ? table() : pick(kFrames);
}

std::uint64_t RandomTrace::table() { return one_in(12) ? 0x140000 : kTablePool + below(10) * 4096; }

std::uint64_t RandomTrace::entry_bits() {
  std::uint64_t bits = pte::kP;
  if (!one_in(4)) bits |= pte::kW;
  if (!one_in(3)) bits |= pte::kU;
  if (one_in(3)) bits |= pte::kA;
  if (one_in(3)) bits |= pte::kD;
  if (one_in(12)) bits |= pte::kG;
  if (one_in(10)) bits |= pte::kXd;
  if (one_in(10)) bits |= below(16) << pte::kPkeyShift;
  if (one_in(16)) bits |= pte::kPs;
  if (one_in(40)) bits |= bit(static_cast<unsigned>(36 + below(16)));
  if (one_in(12)) bits &= ~pte::kP;
  return bits;
}

std::uint64_t RandomTrace::entry() {
  const std::uint64_t bits = entry_bits();
  return (one_in(2) ? table() : gpa()) | bits;
}

Op RandomTrace::guest_op() {
  switch (below(20)) {
    case 0:
    case 1:
    case 2:
    case 3:
      return map();
    case 4:
    case 5:
      return table_store();
    case 6:
    case 7:
      return invalidate_page();
    case 8:
    case 9:
      return move_register();
    default:
      return access();
  }
}

Op RandomTrace::map() {
  Op op = make_op(Verb::kMap);
  set(op, Field::kGva, gva() & ~std::uint64_t{0xfff});
  set(op, Field::kGpa, gpa());
  if (one_in(6)) set(op, Field::kSize, 1 + below(3));
  if (one_in(2)) set(op, Field::kPte, entry_bits());
  if (one_in(6)) set(op, Field::kUpper, (entry_bits() & ~pte::kPs) | pte::kP);
  return op;
}

Op RandomTrace::access() {
  constexpr std::uint64_t kSizes[] = {1, 2, 4, 8, 8};
  Op op = make_op(Verb::kAccess);
  set(op, Field::kKind, below(4));
  std::uint64_t at = gva() + below(64) * 8;
  if (one_in(8)) at = (at | 0xfff) - below(8);
  set(op, Field::kGva, at);
  if (one_in(3)) set(op, Field::kSize, pick(kSizes));
  if (one_in(4)) set(op, Field::kCpl, one_in(2) ? 3 : 0);
  if (one_in(20)) set(op, Field::kImplicit, 1);
  if (one_in(8) && (op.access() == AccessKind::kWrite || op.access() == AccessKind::kRmw))
    set(op, Field::kValue, entry());
  return op;
}

// An entry of a page table: by emulation, by the host, or natively through the direct map.
Op RandomTrace::table_store() {
  const bool small = mode() == Mode::k32Bit;
  const std::uint64_t at = table() + (small ? (one_in(2) ? below(4) : below(1024)) * 4
                                            : (one_in(2) ? below(4) : below(512)) * 8);
  if (one_in(3)) {
    Op op = make_op(Verb::kAccess);
    set(op, Field::kKind, static_cast<std::uint64_t>(AccessKind::kWrite));
    set(op, Field::kGva, kDirectMap + at);
    set(op, Field::kValue, entry());
    if (small && !one_in(6)) set(op, Field::kSize, 4);
    return op;
  }
  constexpr std::uint64_t kSizes[] = {1, 2, 4};
  Op op = make_op(Verb::kWrite);
  set(op, Field::kGpa, one_in(10) ? at + below(8) : at);
  set(op, Field::kValue, entry());
  if (small && !one_in(6)) {
    set(op, Field::kSize, 4);
  } else if (one_in(6)) {
    set(op, Field::kSize, pick(kSizes));
  }
  // PDPTEs have no rights.
  if (mode() == Mode::kPae && one_in(4)) {
    set(op, Field::kGpa, (registers_[vcpu_].root() & ~std::uint64_t{31}) + below(4) * 8);
    set(op, Field::kValue, table() | (one_in(8) ? entry_bits() : pte::kP));
  }
  if (one_in(6)) set(op, Field::kBy, static_cast<std::uint64_t>(Writer::kHost));
  return op;
}

Op RandomTrace::move_register() {
  Op op = make_op(Verb::kMov);
  const Registers usual = this->usual();
  switch (below(7)) {
    case 0:
      set(op, Field::kKind, static_cast<std::uint64_t>(Reg::kCr0));
      set(op, Field::kValue, one_in(2) ? usual.cr0 : usual.cr0 & ~cr0::kWp);
      break;
    case 1:
    case 2:
      set(op, Field::kKind, static_cast<std::uint64_t>(Reg::kCr3));
      set(op, Field::kValue,
          pick(kRoots) | (one_in(3) ? below(3) : 0) | (one_in(4) ? cr3::kNoFlush : 0));
      break;
    case 3: {
      constexpr std::uint64_t kBits[] = {cr4::kPge,  cr4::kPcide, cr4::kSmep,
                                         cr4::kSmap, cr4::kPke,   cr4::kLa57};
      set(op, Field::kKind, static_cast<std::uint64_t>(Reg::kCr4));
      std::uint64_t value = usual.cr4;
      for (const std::uint64_t b : kBits) value |= one_in(b == cr4::kLa57 ? 50 : 3) ? b : 0;
      set(op, Field::kValue, value);
      break;
    }
    case 4:
      set(op, Field::kKind, static_cast<std::uint64_t>(Reg::kEfer));
      set(op, Field::kValue, one_in(2) ? usual.efer : usual.efer & ~efer::kNxe);
      break;
    case 5:
      set(op, Field::kKind, static_cast<std::uint64_t>(Reg::kPkru));
      set(op, Field::kValue, below(4) << (2 * below(3)));
      break;
    default:
      set(op, Field::kKind, static_cast<std::uint64_t>(one_in(2) ? Reg::kCpl : Reg::kAc));
      set(op, Field::kValue, op.reg() == Reg::kCpl ? (one_in(2) ? 3 : 0) : below(2));
  }
  return op;
}

Op RandomTrace::invalidate_page() {
  if (one_in(5)) {
    Op op = make_op(Verb::kInvpcid);
    set(op, Field::kType, one_in(16) ? 4 : below(4));
    set(op, Field::kPcid, one_in(16) ? 0x1000 : below(3));
    set(op, Field::kGva, gva());
    return op;
  }
  Op op = make_op(Verb::kInvlpg);
  set(op, Field::kGva, gva());
  return op;
}

Op RandomTrace::host_op() {
  constexpr Verb kRanges[] = {Verb::kInvalidate, Verb::kRemap, Verb::kProtect, Verb::kAge};
  switch (below(10)) {
    case 0:
    case 1:
    case 2:
    case 3: {
      Op op = make_op(kRanges[below(4)]);
      set(op, Field::kHva, kHvaBase + (gpa() & 0xffff'f000));
      set(op, Field::kPages, one_in(6) ? 512 : 1 + below(3));
      if (op.verb == Verb::kProtect) set(op, Field::kValue, below(2));
      return op;
    }
    case 4: {
      Op op = make_op(one_in(2) ? Verb::kHugeSplit : Verb::kHugeCollapse);
      set(op, Field::kHva, kHvaBase + below(4) * 0x200000);
      return op;
    }
    case 5: {
      Op op = make_op(Verb::kDirtyGet);
      set(op, Field::kSlot, below(3));
      return op;
    }
    case 6: {
      if (one_in(2)) return make_op(Verb::kZapAll);
      Op op = make_op(Verb::kReclaim);
      set(op, Field::kPages, 1 + below(20));
      return op;
    }
    case 7: {
      Op op = make_op(Verb::kFailAlloc);
      set(op, Field::kAfter, below(4));
      set(op, Field::kCountField, 1 + below(3));
      return op;
    }
    default:
      return slot_op();
  }
}

Op RandomTrace::slot_op() {
  constexpr std::uint64_t kPlaces[] = {0x8000000, 0x9000000, 0x40000000, 0x5000};
  constexpr Verb kVerbs[] = {Verb::kSlotAdd,  Verb::kSlotAdd,   Verb::kSlotDelete,
                             Verb::kSlotMove, Verb::kSlotFlags, Verb::kSlotFlags};
  Op op = make_op(kVerbs[below(6)]);
  set(op, Field::kSlot, one_in(3) && op.verb == Verb::kSlotFlags ? 0 : 1 + below(2));
  if (op.verb == Verb::kSlotAdd || op.verb == Verb::kSlotMove) set(op, Field::kGpa, pick(kPlaces));
  if (op.verb == Verb::kSlotAdd) {
    set(op, Field::kPages, one_in(3) ? 512 : 1 + below(4));
    set(op, Field::kHva,
        one_in(3) ? kHvaBase + 0x5000 : kHvaBase + 0x1000'0000 + below(2) * 0x200000);
  }
  if (op.verb == Verb::kSlotAdd || op.verb == Verb::kSlotFlags) set(op, Field::kFlags, below(4));
  return op;
}

}  // namespace twinwalk
