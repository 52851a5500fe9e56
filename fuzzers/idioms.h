#ifndef TWINWALK_FUZZERS_IDIOMS_H_
#define TWINWALK_FUZZERS_IDIOMS_H_

// The sentences that generated traces consist of: each sets one mechanism of a shadow MMU in
// motion, in a form that random single operations would hardly ever give.

#include <span>
#include <string_view>

#include "fuzzers/sketch.h"

namespace twinwalk::fuzz {

struct Idiom {
  std::string_view name;
  std::uint32_t weight;    // how often, relative to the others
  void (*write)(Sketch&);  // appends at least one operation, at most kMaxIdiomOps
};

inline constexpr std::size_t kMaxIdiomOps = 64;

std::span<const Idiom> guest_idioms();   // tables, rights, flushes, registers
std::span<const Idiom> mode_idioms();    // what one paging mode has, or two make of one table
std::span<const Idiom> root_idioms();    // CR3, PCIDs, roots kept, made and lost
std::span<const Idiom> hidden_idioms();  // edits that nobody announces, or only a later flush
std::span<const Idiom> host_idioms();    // memslots, notifier, dirty log, footprint
std::span<const Idiom> event_idioms();   // SMM, INIT, CPUID, vCPUs made anew
std::span<const Idiom> tdp_idioms();     // kinds of memory, prefault, large pages, clearing the log
std::span<const Idiom> overlap_idioms();  // one operation inside another

// Of traces that are a hypervisor: elsewhere they are all skipped, and so they are not among all.
std::span<const Idiom> nested_idioms();

// All others, list by list.
std::span<const std::span<const Idiom>> all_idioms();

// Appends one idiom, chosen by weight.
void write_any_idiom(Sketch& sketch);

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_FUZZERS_IDIOMS_H_
