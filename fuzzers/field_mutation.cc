#include "fuzzers/field_mutation.h"

#include "fuzzers/pools.h"

namespace twinwalk::fuzz {
namespace {

constexpr std::uint64_t kPwu = pte::kP | pte::kW | pte::kU;

// A gva that the trace mapped, or one of the pool.
std::uint64_t any_gva(Rng& rng, const Survey& survey) {
  const auto& places = survey.places();
  if (!places.empty() && rng.chance(3, 4)) return places[rng.below(places.size())].gva;
  return rng.pick(kRegions) + rng.pick(kPageSteps);
}

// A frame, a table page, or the very place of an entry that the trace uses.
std::uint64_t any_gpa(Rng& rng, const Survey& survey) {
  switch (rng.below(6)) {
    case 0:
      return rng.pick(kFrames);
    case 1:
      return rng.pick(kDevices);
    case 2:
      return kTablePool + rng.below(8) * kPage + rng.below(4) * 8;
    default: {
      const Survey::Walk w = survey.walk(survey.space(0), any_gva(rng, survey));
      const std::uint64_t at = w.entry[rng.below(w.count)].gpa;
      return rng.chance(3, 4) ? at : at & ~std::uint64_t{0xfff};
    }
  }
}

std::uint64_t any_entry(Rng& rng, std::uint64_t old, const Survey& survey) {
  switch (rng.below(6)) {
    case 0:
      return old ^ rng.pick(pte::kNames).mask;
    case 1:
      return (old & ~pte::kAddressMask) | (any_gpa(rng, survey) & pte::kAddressMask);
    case 2:
      return old ^ bit(rng.below(64));
    case 3:
      return (any_gpa(rng, survey) & pte::kAddressMask) | kPwu |
             (rng.flip() ? pte::kA | pte::kD : 0);
    case 4:
      return old | pte::kA | pte::kD;
    default:
      return survey.word(any_gpa(rng, survey)) ^ (rng.flip() ? rng.pick(pte::kNames).mask : 0);
  }
}

std::uint64_t any_root(Rng& rng, const Survey& survey) {
  const std::uint64_t root =
      rng.chance(1, 8) ? any_gpa(rng, survey) & pte::kAddressMask : rng.pick(kRoots);
  return root | (rng.flip() ? rng.pick(kPcids) : 0) | (rng.chance(1, 4) ? cr3::kNoFlush : 0);
}

std::uint64_t any_bits(Rng& rng, const FieldInfo& field, std::uint64_t old) {
  if (field.names.empty()) return old ^ bit(rng.below(32));
  if (field.max == ~std::uint64_t{0} && rng.chance(1, 32)) return old ^ bit(rng.below(64));
  return old ^ field.names[rng.below(field.names.size())].mask;
}

std::uint64_t any_number(Rng& rng, std::uint64_t old) {
  switch (rng.below(4)) {
    case 0:
      return old + 1;
    case 1:
      return old - 1;
    case 2:
      return rng.below(8);
    default:
      return rng.below(std::uint64_t{1} << rng.below(20));
  }
}

// One of the core's options, now and then two. What is about large pages needs some of the host's.
void add_options(Rng& rng, Machine& m) {
  const auto one = [&] {
    return static_cast<std::uint32_t>(option::kNames[rng.below(std::size(option::kNames))].mask);
  };
  m.options = one();
  if (rng.chance(1, 3)) m.options |= one();
  if ((m.options & (option::kNxHuge | option::kEagerSplit)) && rng.chance(2, 3))
    m.host_page_level = static_cast<std::uint8_t>(2 + rng.below(2));
}

}  // namespace

std::uint64_t another_value(Rng& rng, const FieldInfo& field, std::uint64_t old,
                            const Survey& survey) {
  std::uint64_t v = old;
  switch (field.kind) {
    case FieldKind::kGva:
      v = rng.chance(3, 4) ? any_gva(rng, survey) + rng.pick(kInPage)
                           : old ^ (rng.flip() ? bit(rng.below(48)) : rng.pick(kPageSteps));
      break;
    case FieldKind::kGpa:
      v = rng.chance(7, 8) ? any_gpa(rng, survey) : old ^ bit(rng.below(40));
      break;
    case FieldKind::kHva:
      v = kHvaBase + (any_gpa(rng, survey) & 0xffff'f000);
      break;
    case FieldKind::kHex:
      v = rng.flip() ? rng.pick(kPcids) : old ^ bit(rng.below(32));
      break;
    case FieldKind::kEntry:
    case FieldKind::kData:
      v = any_entry(rng, old, survey);
      break;
    case FieldKind::kBits:
      v = any_bits(rng, field, old);
      break;
    case FieldKind::kRoot:
      v = any_root(rng, survey);
      break;
    case FieldKind::kEnum:
    case FieldKind::kEnumWord:
    case FieldKind::kRegister:
      v = field.names.empty() ? old : field.names[rng.below(field.names.size())].mask;
      break;
    case FieldKind::kBytes:
      v = std::uint64_t{1} << rng.below(4);
      break;
    case FieldKind::kPageLevel:
      v = 1 + rng.below(3);
      break;
    case FieldKind::kFlag:
      v = rng.below(2);
      break;
    case FieldKind::kDecimal:
    case FieldKind::kQuota:
    case FieldKind::kWidth:
    case FieldKind::kRegisterValue:
      v = any_number(rng, old);
      break;
  }
  return make_legal(field, v);
}

void change_field(Rng& rng, Op& op, const Survey& survey) {
  const VerbInfo& verb = schema_of(op.verb);
  const unsigned vcpus = survey.machine().vcpus;
  if (verb.fields.empty() || (vcpus > 1 && rng.chance(1, 12))) {
    op.vcpu = static_cast<std::uint8_t>(rng.below(vcpus));
    return;
  }
  const FieldInfo& declared = verb.fields[rng.below(verb.fields.size())];
  if (declared.presence != Presence::kRequired && says(op, declared) && rng.chance(1, 4)) {
    op.*declared.member = declared.fallback;
    op.given &= ~given_bit(declared.id);
    return;
  }
  const FieldInfo field = resolve(declared, op);
  set(op, declared.id, another_value(rng, field, op.*declared.member, survey));
  // Another register of `mov` wants a value of its own kind.
  if (declared.kind == FieldKind::kRegister) {
    for (const FieldInfo& f : verb.fields) {
      if (f.kind != FieldKind::kRegisterValue) continue;
      const RegisterInfo& reg = register_info(op.reg());
      std::uint64_t now = 0;
      const Registers& r = survey.registers(op.vcpu);
      if (reg.reg == Reg::kCr0) now = r.cr0;
      if (reg.reg == Reg::kCr3) now = r.cr3;
      if (reg.reg == Reg::kCr4) now = r.cr4;
      if (reg.reg == Reg::kEfer) now = r.efer;
      set(op, f.id, another_value(rng, resolve(f, op), now, survey));
    }
  }
}

Op any_op(Rng& rng, Verb verb, const Survey& survey) {
  Op op = make_op(verb);
  op.vcpu = static_cast<std::uint8_t>(rng.below(survey.machine().vcpus));
  for (const FieldInfo& f : schema_of(verb).fields) {
    if (f.presence != Presence::kRequired && rng.flip()) continue;
    std::uint64_t now = op.*f.member;
    if (f.kind == FieldKind::kRegisterValue && op.reg() == Reg::kCr0)
      now = survey.registers(op.vcpu).cr0;
    if (f.kind == FieldKind::kRegisterValue && op.reg() == Reg::kCr4)
      now = survey.registers(op.vcpu).cr4;
    if (f.kind == FieldKind::kRegisterValue && op.reg() == Reg::kEfer)
      now = survey.registers(op.vcpu).efer;
    set(op, f.id, another_value(rng, resolve(f, op), now, survey));
  }
  return op;
}

Verb any_verb(Rng& rng) {
  const bool executed = !rng.chance(1, 64);
  for (;;) {
    const auto v = static_cast<Verb>(rng.below(static_cast<std::uint64_t>(Verb::kCount)));
    if (schema_of(v).executed == executed) return v;
  }
}

void change_machine(Rng& rng, Machine& machine) {
  const auto fields = machine_fields();
  const MachineField& f = fields[rng.below(fields.size())];
  std::uint64_t v = f.get(machine);
  if (f.kind == MachineField::Kind::kBits) {
    v ^= f.names[rng.below(f.names.size())].mask;
  } else if (f.max - f.min < 64) {
    v = f.min + rng.below(f.max - f.min + 1);
  } else {
    v = rng.flip() ? v + 1 : f.min + rng.below(64);
  }
  f.set(machine, make_legal(f, v));
  reconcile(machine);
}

Machine any_machine(Rng& rng) {
  static constexpr std::uint8_t kWidths[] = {40, 40, 40, 36, 46, 52};
  Machine m;
  if (rng.chance(1, 3))
    m.vcpus = static_cast<std::uint8_t>(2 + (rng.chance(1, 4) ? rng.below(3) : 0));
  m.maxphyaddr = rng.pick(kWidths);
  static constexpr Dimension kCores[] = {Dimension::kShadow, Dimension::kShadow, Dimension::kShadow,
                                         Dimension::kEpt,    Dimension::kEpt,    Dimension::kNpt};
  m.core = rng.pick(kCores);
  if (rng.chance(1, 3)) m.tdp ^= tdp::kNames[rng.below(std::size(tdp::kNames))].mask;
  if (m.core == Dimension::kNpt || rng.chance(1, 6)) m.vendor = Vendor::kAmd;
  if (m.vendor == Vendor::kAmd && rng.flip()) m.features |= feature::kSvm;
  if (rng.chance(1, 4)) m.features &= ~feature::kNames[rng.below(std::size(feature::kNames))].mask;
  if (rng.chance(1, 4)) m.tlb = rng.flip() ? TlbPolicy::kSmall : TlbPolicy::kFresh;
  if (rng.chance(1, 3)) m.host_page_level = static_cast<std::uint8_t>(1 + rng.below(3));
  if (rng.chance(1, 4)) add_options(rng, m);
  if (rng.chance(1, 8)) m.quota = static_cast<std::uint16_t>(kMinQuota + rng.below(24));
  if (rng.chance(1, 8)) m.memory_mib = 2 + 2 * rng.below(3);
  if (rng.chance(2, 3)) m.mode = static_cast<Mode>(rng.below(5));
  if (rng.chance(1, 2)) m.host_levels = static_cast<std::uint8_t>(3 + rng.below(3));
  if (rng.chance(1, 3)) m.features |= feature::kLa57;
  reconcile(m);
  return m;
}

}  // namespace twinwalk::fuzz
