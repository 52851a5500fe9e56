#include "fuzzers/idioms.h"

#include <array>

namespace twinwalk::fuzz {
namespace {

std::uint32_t weight_of_all() {
  std::uint32_t sum = 0;
  for (const std::span<const Idiom>& list : all_idioms())
    for (const Idiom& i : list) sum += i.weight;
  return sum;
}

}  // namespace

std::span<const std::span<const Idiom>> all_idioms() {
  static const std::array kLists = {guest_idioms(),  mode_idioms(),   root_idioms(),
                                    hidden_idioms(), host_idioms(),   event_idioms(),
                                    tdp_idioms(),    overlap_idioms()};
  return kLists;
}

void write_any_idiom(Sketch& sketch) {
  static const std::uint32_t all = weight_of_all();
  std::uint32_t at = sketch.rng().below(all);
  for (const std::span<const Idiom>& list : all_idioms()) {
    for (const Idiom& idiom : list) {
      if (at < idiom.weight) return idiom.write(sketch);
      at -= idiom.weight;
    }
  }
}

}  // namespace twinwalk::fuzz
