#include "fuzzers/sketch.h"

#include "fuzzers/phrases.h"
#include "fuzzers/pools.h"

namespace twinwalk::fuzz {
namespace {

constexpr std::uint64_t kPw = pte::kP | pte::kW;
constexpr std::uint64_t kPwu = kPw | pte::kU;
constexpr std::uint64_t kAd = pte::kA | pte::kD;

bool is_leaf(const Survey::Entry& e) {
  return e.level == 1 || (e.level <= 3 && (e.value & pte::kPs));
}

}  // namespace

void Sketch::say(Op op) {
  op.vcpu = vcpu_;
  op.point = point_;
  out_.push_back(op);
  survey_.absorb(op);
}

unsigned Sketch::other_vcpu() {
  const unsigned n = machine().vcpus;
  return n > 1 ? (vcpu_ + 1 + rng_.below(n - 1)) % n : vcpu_;
}

std::uint64_t Sketch::pool_gva() {
  const std::uint64_t region = mode() == Mode::k4Level   ? rng_.pick(kRegions)
                               : mode() == Mode::k5Level ? rng_.pick(kWideRegions)
                                                         : rng_.pick(kLegacyRegions);
  return region + rng_.pick(kPageSteps);
}

std::uint64_t Sketch::mapped_gva() {
  const auto& places = survey_.places();
  for (unsigned tries = 0; tries < 4 && !places.empty(); ++tries) {
    const Survey::Place& p = places[rng_.below(places.size())];
    if (p.gva != direct_map(mode()) && walk(p.gva).complete) return p.gva;
  }
  const std::uint64_t gva = pool_gva();
  map(gva);
  return gva;
}

std::uint64_t Sketch::frame() { return rng_.pick(kFrames); }

std::uint64_t Sketch::any_frame() {
  switch (rng_.below(8)) {
    case 0:
      return table_frame();
    case 1:
      return rng_.pick(kDevices);
    default:
      return frame();
  }
}

std::uint64_t Sketch::table_frame() {
  const auto& places = survey_.places();
  if (!places.empty() && rng_.chance(7, 8)) {
    const Survey::Walk w = walk(places[rng_.below(places.size())].gva);
    return w.entry[rng_.below(w.count)].gpa & pte::kAddressMask;
  }
  return kTablePool + rng_.below(8) * kPage;
}

std::uint64_t Sketch::other_root() {
  const std::uint64_t r = rng_.pick(kRoots);
  return r == root() ? kRoots[r == kRoots[0] ? 1 : 0] : r;
}

std::uint64_t Sketch::hva() {
  const auto& places = survey_.places();
  if (!places.empty() && rng_.chance(1, 2)) {
    const Survey::Walk w = walk(places[rng_.below(places.size())].gva);
    if (w.complete && w.gpa < machine().memory_bytes())
      return kHvaBase + (w.gpa & ~std::uint64_t{0xfff});
  }
  if (rng_.chance(1, 3)) return kHvaBase + table_frame();
  return rng_.chance(1, 8) ? rng_.pick(kSlotHvas) : kHvaBase + frame();
}

// One of the few roots; for PAE an array that holds no PDPTE with a reserved bit.
std::uint64_t Sketch::root_for(Mode mode) {
  if (mode != Mode::kPae) return rng_.chance(1, 3) ? kInitialCr3 : rng_.pick(kRoots);
  constexpr std::uint64_t kReserved = pte::kW | pte::kU | pte::kA | pte::kD | pte::kPs | pte::kG;
  std::uint64_t array = rng_.pick(kRoots);
  const auto loadable = [&] {
    for (unsigned i = 0; i < 4; ++i) {
      const std::uint64_t pdpte = survey_.word(array + 8 * i);
      if ((pdpte & pte::kP) && (pdpte & kReserved)) return false;
    }
    return true;
  };
  for (unsigned tries = 0; tries < 4 && !loadable(); ++tries)
    array = rng_.pick(kRoots) + 32 * rng_.below(4);
  return array;
}

bool Sketch::enter(Mode to) {
  if (to >= Mode::kPae && !machine().has(feature::kPae)) return false;
  if (to == Mode::k5Level && !machine().has(feature::kLa57)) return false;
  Machine m = machine();
  m.mode = to;
  const Registers r = initial_registers(m);
  say(phrase::sregs(r.cr0, root_for(to), r.cr4, r.efer));
  return true;
}

void Sketch::map(std::uint64_t gva) {
  static constexpr std::uint64_t kRights[] = {
      kPwu, kPwu, kPwu, kPw, pte::kP | pte::kU, pte::kP, kPwu | pte::kXd, kPwu | pte::kG};
  const bool large = rng_.chance(1, 5);
  Op op = phrase::map(gva, large ? rng_.pick(kLargeFrames) : any_frame(),
                      large ? (rng_.chance(1, 8) ? 3 : 2) : 1);
  op.pte = rng_.pick(kRights);
  if (rng_.chance(1, 3)) op.pte |= kAd;
  op.upper = rng_.chance(3, 4) ? kPwu : rng_.pick(kRights) & ~pte::kG;
  if (rng_.chance(1, 12) && machine().has(feature::kPku))
    op.pte |= std::uint64_t{1 + rng_.below(2)} << pte::kPkeyShift;
  if (rng_.chance(1, 12)) op.by = static_cast<std::uint64_t>(Writer::kHost);
  say(op);
}

void Sketch::map_large(std::uint64_t gva, std::uint64_t gpa, unsigned level) {
  Op op = phrase::map(gva, gpa, level);
  if (rng_.flip()) op.pte |= kAd;
  say(op);
}

void Sketch::need_direct_map(std::uint64_t gpa) {
  if (mode() == Mode::kNone) return;
  const std::uint64_t window = direct_map(mode()), gva = window + gpa;
  const Survey::Walk w = walk(gva);
  if (w.complete && w.gpa == gpa && (w.last().value & pte::kW)) return;
  const bool large = rng_.chance(3, 4);
  Op op = large ? phrase::map(window, 0, 2)
                : phrase::map(gva & ~std::uint64_t{0xfff}, gpa & ~std::uint64_t{0xfff}, 1);
  op.pte = kPw | (rng_.flip() ? kAd : 0);
  say(op);
}

Survey::Entry Sketch::entry_of(std::uint64_t gva) {
  const Survey::Walk w = walk(gva);
  return rng_.flip() ? w.last() : w.entry[rng_.below(w.count)];
}

std::uint64_t Sketch::reserved_bit(const Survey::Entry& entry) {
  const unsigned max = machine().maxphyaddr;
  switch (rng_.below(4)) {
    case 0:
      return is_leaf(entry) && entry.level > 1 ? bit(13 + rng_.below(8)) : bit(51);
    case 1:
      if (entry.bytes == 4) return bit(21);
      return entry.level >= 4 ? pte::kPs : bit(max <= 51 ? max : 51);
    case 2:
      return pte::kXd;  // reserved while EFER.NXE=0
    default:
      return bit(max < 52 ? max + rng_.below(52 - max) : 51);
  }
}

// Only P and the frame, as a rule: the other bits are reserved, or mean nothing.
std::uint64_t Sketch::changed_pdpte(std::uint64_t value) {
  switch (rng_.below(8)) {
    case 0:
      return value ^ pte::kP;
    case 1:
      return value | bit(1 + rng_.below(8));
    case 2:
      return value | bit(machine().maxphyaddr);
    case 3:
      return frame() | pte::kP;
    default:
      return table_frame() | pte::kP;
  }
}

std::uint64_t Sketch::changed(const Survey::Entry& entry) {
  if (entry.pdpte_of_pae) return changed_pdpte(entry.value);
  const bool leaf = is_leaf(entry);
  std::uint64_t v = entry.value;
  if (rng_.chance(3, 4)) v |= leaf ? kAd : pte::kA;
  const auto reframe = [&](std::uint64_t to) {
    return (v & ~pte::kAddressMask) | (to & pte::kAddressMask);
  };
  switch (rng_.below(16)) {
    case 0:
    case 1:
      return v ^ pte::kW;
    case 2:
      return v ^ pte::kU;
    case 3:
      return v ^ pte::kXd;
    case 4:
      return v & ~(pte::kW | pte::kU);
    case 5:
      return v | kPwu;
    case 6:
    case 7:
    case 8:
      if (!leaf) return reframe(rng_.chance(3, 4) ? table_frame() : frame());
      return reframe(entry.level > 1 ? rng_.pick(kLargeFrames) : any_frame());
    case 9:
      return v & ~pte::kP;
    case 10:
      return v | pte::kP;
    case 11:
      return v | reserved_bit(entry);
    case 12:
      if (entry.level == 1) return v ^ pte::kG;
      return v & pte::kPs ? reframe(table_frame()) & ~pte::kPs
                          : (v | pte::kPs) & ~(bit(21) - bit(12));
    case 13:
      return v & ~(rng_.flip() ? pte::kA : pte::kD);
    case 14:  // outside long mode there are no keys, and in PAE mode their bits are reserved
      if (!long_mode() && rng_.chance(3, 4)) return v ^ pte::kU;
      return v ^ std::uint64_t{1 + rng_.below(3)} << pte::kPkeyShift;
    default:
      return entry.value ? entry.value : kPwu | frame();
  }
}

void Sketch::deliver_native(std::uint64_t gpa, std::uint64_t value, unsigned size) {
  if (gpa >= kDirectMapSize) {
    say(phrase::write(gpa, value, size, Writer::kGuest));
    return;
  }
  need_direct_map(gpa);
  Op op = phrase::store(direct_map(mode()) + gpa, value, size);
  if (registers().cpl != 0 || rng_.chance(1, 4)) {
    op.cpl = 0;
    op.given |= kCplGiven;
  }
  say(op);
}

std::uint64_t Sketch::link_to(std::uint64_t table, const Survey::Entry& from) {
  return (table & pte::kAddressMask) | (from.pdpte_of_pae ? pte::kP : kLinkBits);
}

void Sketch::load_if_pdpte(const Survey::Entry& entry) {
  if (entry.pdpte_of_pae) say(phrase::mov(Reg::kCr3, registers().cr3));
}

void Sketch::deliver_by(bool native, std::uint64_t gpa, std::uint64_t value, unsigned size) {
  if (native) return deliver_native(gpa, value, size);
  say(phrase::write(gpa, value, size, Writer::kGuest));
}

void Sketch::deliver_split(std::uint64_t gpa, std::uint64_t value) {
  const bool native = rng_.flip();
  const auto part = [&](std::uint64_t at, std::uint64_t what, unsigned size) {
    deliver_by(native, at, what, size);
  };
  const unsigned half = entry_bytes() / 2;
  const std::uint64_t low = value & (bit(8 * half) - 1), high = value >> (8 * half);
  switch (rng_.below(5)) {
    case 0:
      part(gpa, low, half);
      part(gpa + half, high, half);
      break;
    case 1:
      part(gpa + half, high, half);
      if (rng_.chance(1, 3)) touch(mapped_gva());
      part(gpa, low, half);
      break;
    case 2:
      part(gpa, value & 0xff, 1);
      break;
    case 3:
      part(gpa + 2 * rng_.below(half), value >> (16 * rng_.below(half)) & 0xffff, 2);
      break;
    default:  // over the upper half of this entry and the lower half of the next
      part(gpa + half, high | (survey_.entry_at(gpa + 2 * half, 2 * half) << (8 * half)), 2 * half);
      break;
  }
}

void Sketch::deliver(std::uint64_t gpa, std::uint64_t value) {
  switch (rng_.below(10)) {
    case 0:
    case 1:
    case 2:
      say(phrase::write(gpa, value, entry_bytes(), Writer::kGuest));
      break;
    case 3:
      say(phrase::write(gpa, value, entry_bytes(), Writer::kHost));
      break;
    case 4:
      deliver_split(gpa, value);
      break;
    default:
      deliver_native(gpa, value);
      break;
  }
}

void Sketch::invalidate(std::uint64_t gva) {
  const Registers& r = registers();
  const bool pcide = (r.cr4 & cr4::kPcide) != 0;
  switch (rng_.below(12)) {
    case 0:
    case 1:
    case 2:
      break;  // none: what is cached may be used, or has to be re-read
    case 3:
    case 4:
    case 5:
      say(phrase::invlpg(gva | (rng_.chance(1, 8) ? rng_.below(kPage) : 0)));
      break;
    case 6:
    case 7:
      say(phrase::mov(Reg::kCr3, r.cr3));
      break;
    case 8: {
      const std::uint64_t old = r.cr3;
      say(phrase::mov(Reg::kCr3, other_root() | (pcide ? rng_.pick(kPcids) : 0)));
      if (rng_.chance(1, 4)) touch(gva);
      say(phrase::mov(Reg::kCr3, old | (pcide && rng_.flip() ? cr3::kNoFlush : 0)));
      break;
    }
    case 9: {
      const std::uint64_t old = r.cr4;
      say(phrase::mov(Reg::kCr4, old ^ cr4::kPge));
      if (rng_.flip()) say(phrase::mov(Reg::kCr4, old));
      break;
    }
    case 10:
      say(phrase::invpcid(rng_.below(4), pcide ? rng_.pick(kPcids) : 0, gva));
      break;
    default:
      say(phrase::mov(Reg::kCr3, r.cr3 | (pcide ? cr3::kNoFlush : 0)));
      break;
  }
}

void Sketch::invalidate_here(std::uint64_t gva) {
  if (rng_.chance(3, 4)) return say(phrase::invlpg(gva));
  invalidate(gva);
}

void Sketch::touch(std::uint64_t gva, bool anywhere) {
  static constexpr AccessKind kKinds[] = {
      AccessKind::kRead,  AccessKind::kRead,  AccessKind::kRead,  AccessKind::kWrite,
      AccessKind::kWrite, AccessKind::kWrite, AccessKind::kFetch, AccessKind::kRmw};
  static constexpr std::uint64_t kSizes[] = {8, 8, 8, 4, 2, 1};
  const AccessKind kind = rng_.pick(kKinds);
  const std::uint64_t at = anywhere ? gva + rng_.pick(kInPage) : gva;
  const std::uint64_t size = anywhere ? rng_.pick(kSizes) : 8;
  switch (rng_.below(8)) {
    case 0:
    case 1:
      say(phrase::access_at(kind, at, size, 3));
      break;
    case 2:
      say(phrase::access_at(kind, at, size, 0));
      break;
    case 3:
      if (kind != AccessKind::kFetch && rng_.flip()) {
        say(phrase::implicit_access(kind, at));
        break;
      }
      [[fallthrough]];
    default:
      say(phrase::access(kind, at, size));
      break;
  }
}

void Sketch::warm(std::uint64_t gva) {
  say(phrase::access(rng_.flip() ? AccessKind::kRead : AccessKind::kWrite, gva));
}

}  // namespace twinwalk::fuzz
