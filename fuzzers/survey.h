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

#include "harness/trace/followed_registers.h"
#include "harness/trace/program.h"

namespace twinwalk::fuzz {

class Survey {
 public:
  // What translates an address: tables of a mode below a root.
  struct Space {
    Mode mode = Mode::k4Level;
    std::uint64_t root = 0;
    friend bool operator==(const Space&, const Space&) = default;
  };
  struct Entry {
    std::uint64_t gpa = 0, value = 0;
    std::uint64_t table = 0;  // gpa of the table that it is in
    unsigned level = 0;       // 1 = leaf table ... 5
    unsigned shift = 12;      // lowest bit of the address that it translates
    unsigned bytes = 8;
    unsigned index_bits = 9;  // of the address, from `shift` on: which entry of its table it is
    bool pdpte_of_pae = false;
    // Bytes from the start of such a table to its entry for `gva`.
    std::uint64_t offset_of(std::uint64_t gva) const {
      return (gva >> shift & (bit(index_bits) - 1)) * bytes;
    }
  };
  // The entries that translate an address, root first, as far as they are present; at least one.
  // With paging off there are none, and the first word at the initial root stands for one: whoever
  // edits it prepares tables.
  struct Walk {
    unsigned count = 0;
    std::array<Entry, 5> entry;
    bool complete = false;  // ends in a leaf
    std::uint64_t gpa = 0;  // if complete
    const Entry& last() const { return entry[count - 1]; }
  };
  // An address that the trace mapped or accessed.
  struct Place {
    Space space;
    std::uint64_t gva = 0;
  };
  // The shape of a mode's tables.
  struct Format {
    unsigned levels, index_bits, bytes, largest;
  };
  static Format format_of(Mode mode);

  void begin(const Machine& machine);
  void absorb(const Op& op);

  const Machine& machine() const { return program_.machine; }
  const Registers& registers(unsigned vcpu) const { return registers_[vcpu % kMaxVcpus]; }
  Mode mode(unsigned vcpu) const { return followed_[vcpu % kMaxVcpus].mode(); }
  std::uint64_t root(unsigned vcpu) const { return followed_[vcpu % kMaxVcpus].root(); }
  Space space(unsigned vcpu) const { return {mode(vcpu), root(vcpu)}; }
  // The word that the trace stored at `gpa` (aligned down to 8), 0 if it stored none.
  std::uint64_t word(std::uint64_t gpa) const;
  // The entry at `gpa`, of 8 or 4 bytes.
  std::uint64_t entry_at(std::uint64_t gpa, unsigned bytes) const {
    return bytes == 8 ? word(gpa) : word(gpa) >> (8 * (gpa & 4)) & 0xffff'ffff;
  }
  Walk walk(const Space& space, std::uint64_t gva) const;
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
  std::array<FollowedRegisters, kMaxVcpus> followed_;
  std::vector<Place> places_;
  std::size_t next_place_ = 0, ops_ = 0, used_ = 0;
  std::vector<Word> words_;
  std::uint32_t epoch_ = 0;
};

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_FUZZERS_SURVEY_H_
