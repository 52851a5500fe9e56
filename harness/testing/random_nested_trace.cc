#include "harness/testing/random_nested_trace.h"

#include "harness/trace/schema.h"

namespace twinwalk {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kGuestTables = 12;  // of the pool, as many as few addresses need
constexpr std::uint64_t kOtherRoot = kNestedPool + 40 * kPage;
constexpr std::uint64_t kLinear[] = {0,           0x1000,      0x20'0000,   0x20'1000,
                                     0x4000'0000, 0x4000'1000, 0xffff'f000, 0xffff'8880'0000'0000};

}  // namespace

std::uint64_t RandomNestedTrace::gva() {
  const std::uint64_t page = pick(kLinear);
  return page + (one_in(12) ? 0xffc : below(16) * 8);
}
// Pages of the guest's and of the machine's, the same few.
std::uint64_t RandomNestedTrace::data() { return 0x5000 + below(6) * kPage; }
std::uint64_t RandomNestedTrace::nested_root() { return one_in(6) ? kOtherRoot : kNestedPool; }

std::uint64_t RandomNestedTrace::pointer() {
  std::uint64_t p = nested_root();
  if (machine_.nested == Nesting::kNpt) return p;
  p |= eptp::kWb | (machine_.host_levels == 5 ? eptp::k5Level : eptp::k4Level);
  if (!one_in(3)) p |= eptp::kAd;
  return one_in(40) ? p ^ bit(static_cast<unsigned>(below(12))) : p;
}

void RandomNestedTrace::machine(Nesting nesting) {
  machine_ = Machine{};
  machine_.core = Dimension::kBare;
  machine_.nested = nesting;
  machine_.memory_mib = 4;
  if (nesting == Nesting::kNpt) machine_.vendor = Vendor::kAmd;
  machine_.host_levels =
      static_cast<std::uint8_t>(nesting == Nesting::kNpt ? 3 + below(3) : 4 + below(2));
  machine_.tdp = one_in(2) ? tdp::kUsual : static_cast<std::uint32_t>(random_() & tdp::kAll);
  machine_.tlb = one_in(6) ? TlbPolicy::kFresh : one_in(4) ? TlbPolicy::kSmall : TlbPolicy::kStale;
  machine_.tlb_entries = static_cast<std::uint16_t>(1 + below(6));
  machine_.vcpus = one_in(4) ? 2 : 1;
  if (one_in(3)) machine_.mode = static_cast<Mode>(below(5));
  if (one_in(4)) machine_.features ^= 1u << below(13);
  reconcile(machine_);
}

void RandomNestedTrace::say(const Op& op, Trace& out) {
  out.ops.push_back(op);
  out.ops.back().vcpu = static_cast<std::uint8_t>(below(machine_.vcpus));
}

Op RandomNestedTrace::access() {
  Op op = make_op(Verb::kAccess);
  constexpr AccessKind kKinds[] = {AccessKind::kRead,  AccessKind::kRead,  AccessKind::kWrite,
                                   AccessKind::kWrite, AccessKind::kFetch, AccessKind::kRmw};
  set(op, Field::kKind, static_cast<std::uint64_t>(kKinds[below(6)]));
  set(op, Field::kGva, gva());
  if (one_in(3)) set(op, Field::kCpl, one_in(2) ? 3 : 0);
  if (one_in(16)) set(op, Field::kImplicit, 1);
  return op;
}

Op RandomNestedTrace::map() {
  Op op = make_op(Verb::kMap);
  set(op, Field::kGva, gva() & ~std::uint64_t{4095});
  set(op, Field::kGpa, data());
  if (one_in(6)) set(op, Field::kSize, 2 + below(2));
  std::uint64_t bits = pte::kP | pte::kW | pte::kU;
  if (one_in(2)) bits ^= random_() & (pte::kW | pte::kU | pte::kA | pte::kD | pte::kG);
  if (one_in(6)) bits |= pte::kXd;
  if (one_in(12)) bits ^= pte::kP;
  if (one_in(12)) bits |= bit(45);
  if (one_in(12)) bits |= std::uint64_t{1 + below(15)} << pte::kPkeyShift;
  set(op, Field::kPte, bits);
  if (one_in(8)) set(op, Field::kUpper, pte::kP | (random_() & (pte::kW | pte::kU | pte::kA)));
  return op;
}

Op RandomNestedTrace::nested_map() {
  const bool npt = machine_.nested == Nesting::kNpt;
  Op op = make_op(npt ? Verb::kNptMap : Verb::kEptMap);
  set(op, Field::kGva, one_in(3) ? kTablePool + below(kGuestTables) * kPage : data());
  const bool table = op.gva >= kTablePool;
  set(op, Field::kGpa, table && !one_in(4) ? op.gva : data());
  if (one_in(10)) set(op, Field::kSize, 2 + below(2));
  if (npt) {
    std::uint64_t bits = pte::kP | pte::kW | pte::kU;
    if (one_in(2)) bits ^= random_() & (pte::kW | pte::kA | pte::kD | pte::kG);
    if (one_in(8)) bits ^= pte::kU;
    if (one_in(6)) bits |= pte::kXd;
    if (one_in(10)) bits ^= pte::kP;
    if (one_in(12)) bits |= bit(static_cast<unsigned>(40 + below(20)));
    set(op, Field::kPte, bits);
    if (one_in(10))
      set(op, Field::kUpper, pte::kP | (random_() & (pte::kW | pte::kU | pte::kA | pte::kXd)));
  } else {
    std::uint64_t bits = ept::kR | ept::kW | ept::kX | ept::kWb;
    if (one_in(2)) bits ^= random_() & (ept::kW | ept::kX | ept::kA | ept::kD | ept::kUx);
    if (one_in(10)) bits ^= ept::kR;
    if (one_in(12)) bits = (bits & ~std::uint64_t{7 << 3}) | below(8) << 3;
    if (one_in(12)) bits |= bit(static_cast<unsigned>(below(64)));
    set(op, Field::kPte, bits);
    if (one_in(10))
      set(op, Field::kUpper, ept::kR | (random_() & (ept::kW | ept::kX | ept::kA | ept::kUx)));
  }
  if (one_in(6)) set(op, Field::kCr3, kOtherRoot);
  return op;
}

// Into any table of either dimension: a bit changed, mostly, of what maps put there.
Op RandomNestedTrace::entry_store() {
  Op op = make_op(Verb::kWrite);
  const bool guest = one_in(2);
  const std::uint64_t table =
      guest ? kTablePool + below(kGuestTables) * kPage : kNestedPool + below(10) * kPage;
  constexpr std::uint64_t kIndexes[] = {0, 1, 2, 5, 6, 7, 8, 256, 257, 258, 259, 260};
  set(op, Field::kGpa, table + pick(kIndexes) * 8);
  const std::uint64_t target = one_in(2) ? data() : kTablePool + below(24) * kPage;
  std::uint64_t bits = guest || machine_.nested == Nesting::kNpt
                           ? pte::kP | pte::kW | pte::kU | (random_() & (pte::kA | pte::kD))
                           : (random_() & (ept::kA | ept::kD)) | 7 | (one_in(2) ? ept::kWb : 0);
  if (one_in(3)) bits ^= random_() & 7;
  set(op, Field::kValue, target | bits);
  return op;
}

Op RandomNestedTrace::enter() {
  Op op = make_op(one_in(6) ? Verb::kVmExit : Verb::kVmEnter);
  if (op.verb == Verb::kVmExit) return op;
  set(op, Field::kValue, pointer());
  set(op, Field::kPcid, below(3));
  constexpr std::uint64_t kControls[] = {0, 0, 0, 1, 3, 7};
  if (machine_.nested == Nesting::kNpt && one_in(2))
    set(op, Field::kType, one_in(20) ? below(8) : pick(kControls));
  return op;
}

Op RandomNestedTrace::invalidate() {
  switch (below(5)) {
    case 0: {
      Op op = make_op(Verb::kInvlpg);
      set(op, Field::kGva, gva());
      return op;
    }
    case 1: {
      Op op = make_op(Verb::kInvpcid);
      set(op, Field::kType, below(4));
      if (one_in(3)) set(op, Field::kPcid, below(3));
      set(op, Field::kGva, gva());
      return op;
    }
    case 2: {
      if (machine_.nested == Nesting::kNpt) {
        Op op = make_op(Verb::kInvlpga);
        set(op, Field::kGva, gva());
        set(op, Field::kValue, below(3));
        return op;
      }
      Op op = make_op(Verb::kInvvpid);
      set(op, Field::kType, below(4));
      set(op, Field::kPcid, below(3));
      set(op, Field::kGva, gva());
      return op;
    }
    case 3: {
      Op op = make_op(Verb::kPmlGet);
      return op;
    }
    default: {
      Op op = make_op(Verb::kInvept);
      set(op, Field::kType, 1 + below(2));
      set(op, Field::kValue, pointer());
      return op;
    }
  }
}

Op RandomNestedTrace::move_register() {
  Op op = make_op(Verb::kMov);
  const auto put = [&op](Reg reg, std::uint64_t value) {
    set(op, Field::kKind, static_cast<std::uint64_t>(reg));
    set(op, Field::kValue, value);
  };
  const Registers r = initial_registers(machine_);
  switch (below(8)) {
    case 0:
      put(Reg::kCr0, r.cr0 ^ (one_in(8) ? cr0::kPg : cr0::kWp));
      break;
    case 1:
    case 2:
      put(Reg::kCr3, kInitialCr3 | (one_in(2) ? below(3) : 0) | (one_in(4) ? bit(63) : 0));
      break;
    case 3: {
      constexpr std::uint64_t kBits[] = {cr4::kPge,  cr4::kPcide, cr4::kSmep,
                                         cr4::kSmap, cr4::kPke,   cr4::kPse};
      put(Reg::kCr4, r.cr4 | pick(kBits) | (one_in(2) ? pick(kBits) : 0));
      break;
    }
    case 4:
      put(Reg::kEfer, (r.efer ^ (one_in(2) ? efer::kNxe : 0)) |
                          (machine_.nested == Nesting::kNpt && one_in(2) ? efer::kSvme : 0));
      break;
    case 5:
      put(Reg::kPkru, random_() & 0xffff'ffff);
      break;
    case 6:
      put(Reg::kCpl, one_in(2) ? 3 : 0);
      break;
    default:
      put(Reg::kAc, below(2));
  }
  return op;
}

Op RandomNestedTrace::any() {
  const std::uint64_t n = below(100);
  if (n < 45) return access();
  if (n < 57) return map();
  if (n < 69) return nested_map();
  if (n < 77) return entry_store();
  if (n < 82) return enter();
  if (n < 93) return invalidate();
  return move_register();
}

void RandomNestedTrace::next(Nesting nesting, unsigned operations, Trace& out) {
  machine(nesting);
  out.clear();
  out.machine = machine_;
  const auto identity = [&](std::uint64_t gpa, std::uint64_t level) {
    Op op = make_op(nesting == Nesting::kNpt ? Verb::kNptMap : Verb::kEptMap);
    set(op, Field::kGva, gpa);
    set(op, Field::kGpa, gpa);
    if (level > 1) set(op, Field::kSize, level);
    out.ops.push_back(op);
  };
  if (one_in(5)) {
    identity(0, 2);
  } else {
    for (std::uint64_t n = 0; n < kGuestTables; ++n) identity(kTablePool + n * kPage, 1);
    for (std::uint64_t n = 0; n < 4; ++n) identity(0x5000 + n * kPage, 1);
  }
  for (std::uint64_t n = 1 + below(3); n > 0; --n) say(map(), out);
  for (unsigned v = 0; v < machine_.vcpus; ++v) {
    Op op = make_op(Verb::kVmEnter);
    set(op, Field::kValue, pointer());
    set(op, Field::kPcid, 1);
    op.vcpu = static_cast<std::uint8_t>(v);
    out.ops.push_back(op);
  }
  while (out.ops.size() < operations) say(any(), out);
}

}  // namespace twinwalk
