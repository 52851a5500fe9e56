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
  Op window = make_op(Verb::kMap);  // the guest's tables, for native stores to them
  set(window, Field::kGva, kDirectMap);
  set(window, Field::kGpa, 0);
  set(window, Field::kSize, 2);
  out.ops.push_back(window);
  while (out.ops.size() < options.operations) {
    Op op = options.host_events && one_in(8) ? host_op() : guest_op();
    op.vcpu = static_cast<std::uint8_t>(below(out.machine.vcpus));
    out.ops.push_back(op);
  }
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

std::uint64_t RandomTrace::gva() {
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
  const std::uint64_t at = table() + (one_in(2) ? below(4) : below(512)) * 8;
  if (one_in(3)) {
    Op op = make_op(Verb::kAccess);
    set(op, Field::kKind, static_cast<std::uint64_t>(AccessKind::kWrite));
    set(op, Field::kGva, kDirectMap + at);
    set(op, Field::kValue, entry());
    return op;
  }
  constexpr std::uint64_t kSizes[] = {1, 2, 4};
  Op op = make_op(Verb::kWrite);
  set(op, Field::kGpa, one_in(10) ? at + below(8) : at);
  set(op, Field::kValue, entry());
  if (one_in(6)) set(op, Field::kSize, pick(kSizes));
  if (one_in(6)) set(op, Field::kBy, static_cast<std::uint64_t>(Writer::kHost));
  return op;
}

Op RandomTrace::move_register() {
  Op op = make_op(Verb::kMov);
  const Registers usual;
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
