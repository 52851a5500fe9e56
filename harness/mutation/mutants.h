#ifndef TWINWALK_HARNESS_MUTATION_MUTANTS_H_
#define TWINWALK_HARNESS_MUTATION_MUTANTS_H_

// Mutants: small changes of a source that a person might have made by mistake. What they are made
// of is text; a change that does not compile is the compiler's to refuse.
//
// Precondition of all: sources as clang-format leaves them, where a binary operator has a blank on
// either side and a bracket of a template or a reference has not.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace twinwalk::mutation {

struct Mutant {
  std::string file;                // from the root of the tree
  unsigned line = 0, column = 0;   // from 1, of the first changed byte
  std::string change;              // kind of change
  std::size_t begin = 0, end = 0;  // bytes of the source that give way
  std::string now;                 // to this
  std::string was;                 // what is there
  // FILE:LINE:COLUMN:CHANGE, no two alike.
  std::string id() const;
};

// All mutants of a source, in its order.
std::vector<Mutant> mutants_of(const std::string& file, std::string_view source);

// The source with the mutant in it. Precondition: it is one of that source.
std::string with_mutant(std::string_view source, const Mutant& mutant);

// What the two sides of the reference's fence are made of.
enum class Side : char { kCore, kOracle };
// All mutants of that side of the tree at `root`, by file and place; tests and what they share are
// left out. `error`: "" or which file cannot be read.
std::vector<Mutant> mutants_in(const std::string& root, Side side, std::string& error);

// `count` of them (all if 0), in their order. Which ones follows from their ids and `seed` alone,
// so that a change elsewhere in the tree leaves most of the choice as it is.
std::vector<Mutant> sample(std::vector<Mutant> all, std::size_t count, std::uint64_t seed);

}  // namespace twinwalk::mutation

#endif  // TWINWALK_HARNESS_MUTATION_MUTANTS_H_
