#include "fuzzers/idioms.h"

#include <array>

namespace twinwalk::fuzz {
namespace {

using Lists = std::span<const std::span<const Idiom>>;

void write_one_of(Lists lists, Sketch& sketch) {
  std::uint32_t all = 0;
  for (const std::span<const Idiom>& list : lists)
    for (const Idiom& i : list) all += i.weight;
  std::uint32_t at = sketch.rng().below(all);
  for (const std::span<const Idiom>& list : lists) {
    for (const Idiom& idiom : list) {
      if (at < idiom.weight) return idiom.write(sketch);
      at -= idiom.weight;
    }
  }
}

}  // namespace

std::span<const std::span<const Idiom>> all_idioms() {
  static const std::array kLists = {guest_idioms(),  mode_idioms(),   root_idioms(),
                                    hidden_idioms(), host_idioms(),   event_idioms(),
                                    tdp_idioms(),    overlap_idioms()};
  return kLists;
}

// A hypervisor has guests, mostly; the other idioms are about what its guest does.
void write_any_idiom(Sketch& sketch) {
  static const std::span<const Idiom> kNested[] = {nested_idioms()};
  const bool nested = sketch.machine().core == Dimension::kBare;
  write_one_of(nested && sketch.rng().chance(3, 4) ? Lists(kNested) : all_idioms(), sketch);
}

}  // namespace twinwalk::fuzz
