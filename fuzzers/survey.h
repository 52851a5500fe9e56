#ifndef TWINWALK_FUZZERS_SURVEY_H_
#define TWINWALK_FUZZERS_SURVEY_H_

// What a trace has done so far, as far as its text tells: which words it stored,
// what its registers hold, which addresses it mapped. The generator asks it where
// the entry of an address lies, so that it can edit tables instead of hoping to hit them.
//
// A guess, not a reference: it ignores faults, memslots and host events. A wrong guess costs the
// fuzzer a dull operation, nothing else.

#include <array>
#include <cstdint>
#include <vector>

#include "harness/trace/program.h"

namespace twinwalk::fuzz {

class Survey {
 public:
  struct Entry {
    std::uint64_t gpa = 0, value = 0;
    unsigned level = 0;  // 4 = root table ... 1
  };
  // The entries that translate an address, root first, as far as they are present.
  struct Walk {
    unsigned count = 0;
    std::array<Entry, 4> entry;
    bool complete = false;  // ends in a leaf
    std::uint64_t gpa = 0;  // if complete
    const Entry& last() const { return entry[count - 1]; }
  };
  // An address that the trace mapped or accessed.
  struct Place {
    std::uint64_t root = 0, gva = 0;
  };

  void begin(const Machine& machine);
  void absorb(const Op& op);

  const Machine& machine() const { return program_.machine; }
  const Registers& registers(unsigned vcpu) const { return registers_[vcpu % kMaxVcpus]; }
  std::uint64_t root(unsigned vcpu) const;
  // The word that the trace stored at `gpa` (aligned down to 8), 0 if it stored none.
  std::uint64_t word(std::uint64_t gpa) const;
  Walk walk(std::uint64_t root, std::uint64_t gva) const;
  // The last places that were mapped, newest at any position.
  const std::vector<Place>& places() const { return places_; }
  std::size_t ops() const { return ops_; }

 private:
  static constexpr std::size_t kPlaces = 32;
  static constexpr std::size_t kWords =
      4096;  // power of two; when 3/4 full, further words are forgotten

  struct Word {
    std::uint64_t address = 0, value = 0;
    std::uint32_t epoch = 0;
  };
  void store(std::uint64_t gpa, unsigned size, std::uint64_t value);
  Word* slot_of(std::uint64_t address);
  const Word* find(std::uint64_t address) const;
  void follow(const Op& step);
  void remember(unsigned vcpu, std::uint64_t gva);

  Lowering lowering_;
  Program program_;
  std::array<Registers, kMaxVcpus> registers_;
  std::vector<Place> places_;
  std::size_t next_place_ = 0, ops_ = 0, used_ = 0;
  std::vector<Word> words_;
  std::uint32_t epoch_ = 0;
};

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_FUZZERS_SURVEY_H_
