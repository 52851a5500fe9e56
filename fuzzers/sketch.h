#ifndef TWINWALK_FUZZERS_SKETCH_H_
#define TWINWALK_FUZZERS_SKETCH_H_

// What idioms are written with: appends operations, follows them in a Survey, and makes the
// choices that all idioms share: which address, which entry, what change, by which
// way, behind which invalidation.

#include <cstdint>
#include <vector>

#include "fuzzers/rng.h"
#include "fuzzers/survey.h"

namespace twinwalk::fuzz {

class Sketch {
 public:
  // Appends to `out`, which continues the trace that `survey` has absorbed. All three outlive the
  // sketch.
  Sketch(Rng& rng, Survey& survey, std::vector<Op>& out) : rng_(rng), survey_(survey), out_(out) {}

  Rng& rng() { return rng_; }
  const Survey& survey() const { return survey_; }
  const Machine& machine() const { return survey_.machine(); }
  const Registers& registers() const { return survey_.registers(vcpu_); }
  std::uint64_t root() const { return survey_.root(vcpu_); }
  Mode mode() const { return survey_.mode(vcpu_); }
  bool long_mode() const { return mode() == Mode::k4Level || mode() == Mode::k5Level; }
  Survey::Walk walk(std::uint64_t gva) const { return survey_.walk(survey_.space(vcpu_), gva); }
  std::size_t said() const { return out_.size(); }

  std::uint8_t vcpu() const { return vcpu_; }
  void use_vcpu(unsigned vcpu) { vcpu_ = static_cast<std::uint8_t>(vcpu % machine().vcpus); }
  unsigned other_vcpu();  // another one if the machine has one
  // Says on `vcpu` what `say_it` says.
  template <typename SayIt>
  void on_vcpu(unsigned vcpu, const SayIt& say_it) {
    const unsigned here = vcpu_;
    use_vcpu(vcpu);
    say_it();
    use_vcpu(here);
  }

  // What `say_it` says runs inside what was said before it, at that point, on `vcpu`.
  template <typename SayIt>
  void inside(Point point, unsigned vcpu, const SayIt& say_it) {
    point_ = out_.empty() ? Point::kNone : point;
    on_vcpu(vcpu, say_it);
    point_ = Point::kNone;
  }

  void say(Op op);  // on the vCPU in use

  // Addresses. An address that the current root maps, mapping one first if there is none.
  std::uint64_t pool_gva();
  std::uint64_t mapped_gva();
  std::uint64_t mapped_page() { return mapped_gva() & ~std::uint64_t{0xfff}; }
  std::uint64_t frame();        // a data frame, 4K-aligned
  std::uint64_t any_frame();    // sometimes a table's or a device's
  std::uint64_t table_frame();  // of a table that the trace links, or a pool page
  std::uint64_t other_root();
  std::uint64_t hva();  // of something that the trace is likely to use

  // Brings the vCPU into `mode` at once, as the host can, at a root that it may load. False: the
  // machine has no such mode, and nothing was said.
  bool enter(Mode mode);
  // For idioms that show most in one mode: there now, or, now and then, from here on.
  void prefer(Mode mode) {
    if (this->mode() != mode && rng_.chance(1, 3)) enter(mode);
  }

  // Maps `gva` somewhere; mostly with all rights.
  void map(std::uint64_t gva);
  void map_large(std::uint64_t gva, std::uint64_t gpa, unsigned level = 2);
  // Makes sure that a store to the direct map of `gpa` (< 2M) reaches it, as far as the trace
  // tells.
  void need_direct_map(std::uint64_t gpa);

  // A random entry of the walk of `gva`; the last one half of the time.
  Survey::Entry entry_of(std::uint64_t gva);
  // Another value for it, mostly with A and D set, so that old and new may both be cached.
  std::uint64_t changed(const Survey::Entry& entry);
  std::uint64_t reserved_bit(const Survey::Entry& entry);

  // An entry in the place of `from` that leads to `table`, with all rights.
  static std::uint64_t link_to(std::uint64_t table, const Survey::Entry& from);
  // CR3 is loaded again if that entry is in use only from then on.
  void load_if_pdpte(const Survey::Entry& entry);

  // Stores `value` into the entry at `gpa`, of the size that entries have now: emulated, native, by
  // the host, whole or in parts.
  void deliver(std::uint64_t gpa, std::uint64_t value);
  void deliver_native(std::uint64_t gpa, std::uint64_t value) {
    deliver_native(gpa, value, entry_bytes());
  }
  void deliver_native(std::uint64_t gpa, std::uint64_t value, unsigned size);
  // Native, or by an instruction that is emulated.
  void deliver_by(bool native, std::uint64_t gpa, std::uint64_t value, unsigned size);
  void deliver_split(std::uint64_t gpa, std::uint64_t value);

  // One of the ways to invalidate `gva`, or none.
  void invalidate(std::uint64_t gva);
  // INVLPG, which stays on one processor; now and then as above.
  void invalidate_here(std::uint64_t gva);
  // One access to `gva`; `anywhere` in its page, also across its end.
  void touch(std::uint64_t gva, bool anywhere = false);
  // Accesses the page once as a page that an earlier step has made accessible and dirty.
  void warm(std::uint64_t gva);

  // Bytes of an entry, in the mode of now.
  unsigned entry_bytes() const { return Survey::format_of(mode()).bytes; }

 private:
  std::uint64_t changed_pdpte(std::uint64_t value);
  std::uint64_t root_for(Mode mode);

  Rng& rng_;
  Survey& survey_;
  std::vector<Op>& out_;
  std::uint8_t vcpu_ = 0;
  Point point_ = Point::kNone;
};

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_FUZZERS_SKETCH_H_
