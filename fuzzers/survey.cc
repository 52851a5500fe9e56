#include "fuzzers/survey.h"

namespace twinwalk::fuzz {
namespace {

constexpr std::size_t first_slot(std::uint64_t address, std::size_t slots) {
  const std::uint64_t h = (address >> 3) * 0x9E37'79B9'7F4A'7C15u;
  return static_cast<std::size_t>(h >> 40) & (slots - 1);
}

}  // namespace

void Survey::begin(const Machine& machine) {
  lowering_.begin(machine, program_);
  registers_.fill(initial_registers(machine));
  for (FollowedRegisters& f : followed_) f.reset(machine);
  places_.clear();
  next_place_ = ops_ = used_ = 0;
  if (words_.empty()) words_.resize(kWords);
  if (++epoch_ == 0) {  // wrapped: old stamps would count again
    for (Word& w : words_) w.epoch = 0;
    epoch_ = 1;
  }
}

const Survey::Word* Survey::find(std::uint64_t address) const {
  for (std::size_t i = first_slot(address, kWords);; i = (i + 1) % kWords) {
    if (words_[i].epoch != epoch_) return nullptr;
    if (words_[i].address == address) return &words_[i];
  }
}

Survey::Word* Survey::slot_of(std::uint64_t address) {
  std::size_t i = first_slot(address, kWords);
  while (words_[i].epoch == epoch_ && words_[i].address != address) i = (i + 1) % kWords;
  if (words_[i].epoch == epoch_) return &words_[i];
  if (used_ >= kWords / 4 * 3) return nullptr;
  ++used_;
  words_[i] = {address, 0, epoch_};
  return &words_[i];
}

std::uint64_t Survey::word(std::uint64_t gpa) const {
  const Word* w = find(gpa & ~std::uint64_t{7});
  return w ? w->value : 0;
}

void Survey::store(std::uint64_t gpa, unsigned size, std::uint64_t value) {
  for (unsigned i = 0; i < size;) {
    const std::uint64_t at = gpa + i;
    const unsigned offset = at & 7;
    const unsigned bytes = size - i < 8 - offset ? size - i : 8 - offset;
    const std::uint64_t mask = (bytes == 8 ? ~std::uint64_t{0} : bit(8 * bytes) - 1)
                               << (8 * offset);
    if (Word* w = slot_of(at & ~std::uint64_t{7})) {
      w->value = (w->value & ~mask) | ((value >> (8 * i) << (8 * offset)) & mask);
    }
    i += bytes;
  }
}

Survey::Format Survey::format_of(Mode mode) {
  switch (mode) {
    case Mode::kNone:
      return {0, 9, 8, 0};
    case Mode::k32Bit:
      return {2, 10, 4, 2};
    case Mode::kPae:
      return {3, 9, 8, 2};
    case Mode::k4Level:
      return {4, 9, 8, 3};
    case Mode::k5Level:
      return {5, 9, 8, 3};
  }
  return {};
}

Survey::Walk Survey::walk(const Space& space, std::uint64_t gva) const {
  Walk out;
  const Format format = format_of(space.mode);
  const bool legacy = space.mode != Mode::k4Level && space.mode != Mode::k5Level;
  if (legacy) gva &= 0xffff'ffff;
  if (format.levels == 0) {
    out.entry[out.count++] = {
        .gpa = kInitialCr3, .value = word(kInitialCr3), .table = kInitialCr3, .level = 1};
    out.complete = true;
    out.gpa = gva;
    return out;
  }
  std::uint64_t table = space.root;
  for (unsigned level = format.levels; level >= 1; --level) {
    Entry& e = out.entry[out.count++];
    e.level = level;
    e.shift = 12 + format.index_bits * (level - 1);
    e.bytes = format.bytes;
    e.table = table;
    e.pdpte_of_pae = space.mode == Mode::kPae && level == 3;
    e.index_bits = e.pdpte_of_pae ? 2 : format.index_bits;
    e.gpa = table + e.offset_of(gva);
    e.value = entry_at(e.gpa, e.bytes);
    if (!(e.value & pte::kP)) return out;
    if (level == 1 || (level <= format.largest && (e.value & pte::kPs))) {
      const std::uint64_t in_page = bit(e.shift) - 1;
      out.complete = true;
      out.gpa = (e.value & pte::kAddressMask & ~in_page) | (gva & in_page);
      return out;
    }
    table = e.value & pte::kAddressMask;
  }
  return out;
}

void Survey::remember(unsigned vcpu, std::uint64_t gva) {
  const Place place{space(vcpu), gva};
  for (const Place& p : places_) {
    if (p.space == place.space && p.gva == place.gva) return;
  }
  if (places_.size() < kPlaces) {
    places_.push_back(place);
  } else {
    places_[next_place_++ % kPlaces] = place;
  }
}

void Survey::follow(const Op& step) {
  const unsigned vcpu = step.vcpu % kMaxVcpus;
  Registers& r = registers_[vcpu];
  const auto size = static_cast<unsigned>(step.size <= 8 ? step.size : 8);
  switch (step.verb) {
    case Verb::kWrite:
      store(step.gpa, size, step.value);
      break;
    case Verb::kAccess:
      if (step.access() == AccessKind::kWrite) {
        const Walk w = walk(space(vcpu), step.gva);
        if (w.complete) store(w.gpa, size, step.value);
      }
      break;
    case Verb::kMov:
      switch (step.reg()) {
        case Reg::kCr0:
        case Reg::kCr3:
        case Reg::kCr4:
        case Reg::kEfer:
          followed_[vcpu].write(step.reg(), step.value);
          break;
        case Reg::kPkru:
          r.pkru = static_cast<std::uint32_t>(step.value);
          break;
        case Reg::kCpl:
          r.cpl = static_cast<std::uint8_t>(step.value & 3);
          break;
        case Reg::kAc:
          r.ac = step.value != 0;
          break;
      }
      break;
    case Verb::kSregs:
      followed_[vcpu].set(step);
      break;
    case Verb::kInit:
      followed_[vcpu].init();
      break;
    case Verb::kNewVcpu:
      r = initial_registers(machine());
      followed_[vcpu].reset(machine());
      break;
    default:
      return;
  }
  const FollowedRegisters& now = followed_[vcpu];
  r.cr0 = now.cr0();
  r.cr3 = now.cr3() & ~cr3::kNoFlush;
  r.cr4 = now.cr4();
  r.efer = now.efer();
}

void Survey::absorb(const Op& op) {
  program_.steps.clear();
  lowering_.add(static_cast<std::uint32_t>(ops_++), op, program_);
  for (const Step& step : program_.steps) follow(step.what);
  if (op.verb == Verb::kMap) remember(op.vcpu, op.gva);
}

}  // namespace twinwalk::fuzz
