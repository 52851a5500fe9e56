// Random tables, registers and accesses: the real engine against spec's fresh walk.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "harness/trace/content.h"
#include "harness/trace/program.h"
#include "harness/trace/x86.h"
#include "oracle/spec.h"
#include "oracle/unicorn/client.h"

namespace twinwalk::oracle {
namespace {

class Random {
 public:
  explicit Random(std::uint64_t seed)
      : state_(seed * 0x9E37'79B9'7F4A'7C15u + 88172645463325252u) {}
  std::uint64_t word() {
    state_ ^= state_ << 13, state_ ^= state_ >> 7, state_ ^= state_ << 17;
    return state_ * 0x2545'F491'4F6C'DD1Du;
  }
  std::uint64_t below(std::uint64_t n) { return (word() >> 11) % n; }
  bool one_in(std::uint64_t n) { return below(n) == 0; }
  template <class T, std::size_t N>
  T of(const T (&choices)[N]) {
    return choices[below(N)];
  }

 private:
  std::uint64_t state_;
};

// Two tables a level, four entries used in each, so that paths share and differ; every bit of an
// entry varies. The geometry is the test's own.
class RandomGuest {
 public:
  RandomGuest(const Machine& machine, std::uint64_t seed) : machine_(machine), random_(seed) {
    switch (machine.mode) {
      case Mode::kNone:
        break;
      case Mode::k32Bit:
        levels_ = 2, index_bits_ = 10;
        break;
      case Mode::kPae:
        levels_ = 3;
        break;
      case Mode::k4Level:
        levels_ = 4;
        break;
      case Mode::k5Level:
        levels_ = 5;
        break;
    }
  }

  void start(Spec& spec, UnicornClient& client) {
    spec.observe(&client);
    spec.reset(machine_, Profile::kKvm);
    for (unsigned level = 1; level <= levels_; ++level) {
      for (unsigned table = 0; table < 2; ++table) {
        for (const unsigned index : kIndexes) rewrite(spec, level, table, index_at(level, index));
      }
    }
    latch(spec);
  }
  void rewrite_one(Spec& spec) {
    if (levels_ == 0) return;
    const auto level = 1 + static_cast<unsigned>(random_.below(levels_));
    rewrite(spec, level, static_cast<unsigned>(random_.below(2)),
            index_at(level, random_.of(kIndexes)));
    if (random_.one_in(16)) latch(spec);
  }

  AccessQuery query() {
    AccessQuery q;
    q.kind = random_.of({AccessKind::kRead, AccessKind::kRead, AccessKind::kWrite,
                         AccessKind::kWrite, AccessKind::kFetch, AccessKind::kRmw});
    q.size = static_cast<std::uint8_t>(1u << random_.below(4));
    q.value = store_stamp(static_cast<std::uint32_t>(random_.below(1u << 20)));
    q.registers = registers();
    q.gva = (q.registers.cr0 & cr0::kPg) != 0 ? address(q) : physical_address(q);
    return q;
  }

 private:
  static constexpr unsigned kIndexes[] = {0, 1, 5, 511};
  bool long_mode() const { return levels_ >= 4; }
  bool four_bytes() const { return levels_ == 2; }
  bool is_pdpte(unsigned level) const { return levels_ == 3 && level == 3; }
  unsigned shift(unsigned level) const { return 12 + index_bits_ * (level - 1); }
  // An index as far as a table at `level` goes.
  unsigned index_at(unsigned level, unsigned index) const {
    if (is_pdpte(level)) return index & 3;
    return four_bytes() && index == 511 ? 1023 : index;
  }
  std::uint64_t table_gpa(unsigned level, unsigned table) const {
    if (level < levels_) return 0x110000 + (2 * level + table) * 0x1000;
    return kInitialCr3 + table * 0x1000 + (levels_ == 3 ? 0x7e0 : 0);
  }

  std::uint64_t address(const AccessQuery& q) {
    std::uint64_t gva = 0;
    for (unsigned level = 1; level <= levels_; ++level)
      gva |= std::uint64_t{index_at(level, random_.of(kIndexes))} << shift(level);
    if (long_mode()) {
      const unsigned top = shift(levels_) + index_bits_ - 1;
      if ((gva & bit(top)) != 0) gva |= ~(bit(top + 1) - 1);
      if (random_.one_in(64)) gva ^= bit(top + 1 + static_cast<unsigned>(random_.below(63 - top)));
    } else if (random_.one_in(16)) {
      gva |= random_.word() << 32;
    }
    return gva + in_page(q);
  }
  std::uint64_t physical_address(const AccessQuery& q) {
    const std::uint64_t pages = random_.one_in(8) ? bit(20) - 1 : machine_.memory_bytes() >> 12;
    return random_.below(pages) * 0x1000 + in_page(q);
  }
  std::uint64_t in_page(const AccessQuery& q) {
    if (q.kind == AccessKind::kFetch)
      return 8 * random_.below(512) + (random_.one_in(4) ? random_.below(8) : 0);
    return random_.one_in(8) ? 4097 - q.size + random_.below(q.size) : random_.below(4096);
  }

  Registers registers() {
    Registers r = initial_registers(machine_);
    if (random_.one_in(3)) r.cr0 &= ~cr0::kWp;
    if (random_.one_in(16)) r.cr0 &= ~cr0::kPg;
    const auto maybe = [&](std::uint32_t feature, std::uint64_t& reg, std::uint64_t bits) {
      if (machine_.has(feature) && random_.one_in(2)) reg |= bits;
    };
    maybe(feature::kSmep, r.cr4, cr4::kSmep);
    maybe(feature::kSmap, r.cr4, cr4::kSmap);
    maybe(feature::kPku, r.cr4, cr4::kPke);
    maybe(feature::kPge, r.cr4, cr4::kPge);
    if (long_mode()) maybe(feature::kPcid, r.cr4, cr4::kPcide);
    if (random_.one_in(4)) r.cr4 ^= cr4::kPse;
    if (random_.one_in(4)) r.efer &= ~efer::kNxe;
    if ((r.cr4 & cr4::kPke) != 0)
      r.pkru = random_.of({0u, 0x5555'5554u, 0xaaaa'aaa8u, 0x1b2e'4f90u});
    // PAE's is the one whose PDPTEs are latched.
    r.cr3 = levels_ == 3 ? cr3_ : table_gpa(levels_, static_cast<unsigned>(random_.below(2)));
    if ((r.cr4 & cr4::kPcide) != 0) r.cr3 |= random_.below(4);
    r.cpl = random_.one_in(2) ? 3 : 0;
    r.ac = random_.one_in(2);
    return r;
  }

  void write(Spec& spec, unsigned level, unsigned table, unsigned index, std::uint64_t entry) {
    const std::uint64_t at = table_gpa(level, table) + index * (four_bytes() ? 4 : 8);
    const std::uint64_t word = at & ~std::uint64_t{7};
    if (four_bytes()) {
      const unsigned by = at & 4 ? 32 : 0;
      const std::uint64_t half = std::uint64_t{0xffff'ffff} << by;
      entry = (spec.read_word(word) & ~half) | (entry & 0xffff'ffff) << by;
    }
    spec.write_word(word, entry);
  }
  void rewrite(Spec& spec, unsigned level, unsigned table, unsigned index) {
    write(spec, level, table, index, entry(level));
  }

  // PAE: MOV to CR3 of a table whose PDPTEs have nothing reserved. Those of memory change later.
  void latch(Spec& spec) {
    if (levels_ != 3) return;
    const auto table = static_cast<unsigned>(random_.below(2));
    for (unsigned index = 0; index < 4; ++index) {
      const std::uint64_t below = table_gpa(2, static_cast<unsigned>(random_.below(2)));
      write(spec, 3, table, index, random_.one_in(12) ? below : below | pte::kP | pte::kPwt);
    }
    Step step;
    step.what.verb = Verb::kMov;
    step.what.kind = static_cast<std::uint64_t>(Reg::kCr3);
    step.what.value = cr3_ = table_gpa(3, table);
    Verdict verdict;
    spec.judge(steps_++, step, Outcome{}, nullptr, verdict);
    EXPECT_EQ(verdict.kind, VerdictKind::kAgree) << verdict.got << " / " << verdict.allowed;
  }

  std::uint64_t entry(unsigned level) {
    std::uint64_t e = pte::kP | pte::kW | pte::kU;
    if (random_.one_in(24)) e &= ~pte::kP;
    if (random_.one_in(10)) e &= ~pte::kW;
    if (random_.one_in(10)) e &= ~pte::kU;
    if (random_.one_in(2)) e |= pte::kA;
    if (random_.one_in(2)) e |= pte::kD;
    if (random_.one_in(8)) e |= pte::kG;
    if (random_.one_in(12)) e |= pte::kXd;
    if (is_pdpte(level)) return pdpte(e);
    const bool leaf = level == 1 || random_.one_in(level >= 4 ? 60 : 10);
    e |= leaf ? leaf_bits(level) : table_gpa(level - 1, static_cast<unsigned>(random_.below(2)));
    if (level > 1 && leaf) e |= pte::kPs;
    if (four_bytes()) {
      // Without CR4.PSE that is a table's.
      if (level == 2 && random_.one_in(4)) e |= pte::kPs;
      return e | random_.below(8) << 9;
    }
    // Ignored bits and the protection key; reserved in PAE paging.
    if (long_mode() || random_.one_in(40)) e |= random_.below(2048) << 52;
    if (random_.one_in(40)) e |= bit(36 + static_cast<unsigned>(random_.below(16)));
    return e;
  }
  std::uint64_t pdpte(std::uint64_t flags) {
    std::uint64_t e = table_gpa(2, static_cast<unsigned>(random_.below(2))) | (flags & pte::kP);
    if (random_.one_in(8)) e |= flags & 0x1fe;
    if (random_.one_in(24)) e |= bit(36 + static_cast<unsigned>(random_.below(28)));
    return e;
  }
  // A frame of the level's size, in memory more often than not; sometimes with a bit below its
  // size.
  std::uint64_t leaf_bits(unsigned level) {
    const unsigned at = shift(level);
    const std::uint64_t mib = machine_.memory_mib;
    if (four_bytes() && level == 2) {
      std::uint64_t e = (1 + random_.below(mib / 4 - 1)) << 22;
      if (random_.one_in(3)) e |= random_.below(256) << 13;  // PSE-36
      if (random_.one_in(16)) e |= bit(21);
      return e | (random_.one_in(4) ? pte::kPatLarge : 0);
    }
    std::uint64_t gpa = level == 1   ? 0x20'0000 + random_.below((mib - 2) << 8) * 0x1000
                        : level == 2 ? (1 + random_.below(mib / 2 - 1)) << 21
                                     : random_.below(4) << 30;
    const unsigned address_bits = four_bytes() ? 32 : 34;
    if (random_.one_in(8))
      gpa |= (random_.word() & (bit(address_bits) - 1)) >> at << at | mib << 20;
    if (level > 1 && random_.one_in(16))
      gpa |= bit(12 + static_cast<unsigned>(random_.below(std::min(at, 30u) - 12)));
    return gpa;
  }

  Machine machine_;
  Random random_;
  unsigned levels_ = 0, index_bits_ = 9;
  std::uint64_t cr3_ = kInitialCr3;
  std::uint32_t steps_ = 0;
};

struct Tally {
  bool translates = false;
  std::uint64_t checks = 0, skipped = 0;
  std::map<OutcomeKind, std::uint64_t> outcomes;
  std::map<std::string, std::uint64_t> known;  // by ledger id
  std::vector<std::string> unknown;            // what no entry covers
};

std::string describe(const AccessQuery& q, const FreshOutcome& fresh,
                     const UnicornDisagreement& d) {
  const Registers& r = q.registers;
  std::string text(name_of(q.kind));
  text += "/" + std::to_string(q.size) + " cpl=" + std::to_string(r.cpl) +
          " ac=" + std::to_string(r.ac);
  char hex[320];
  std::snprintf(hex, sizeof hex, " gva=%lx cr0=%lx cr3=%lx cr4=%lx efer=%lx pkru=%x", q.gva, r.cr0,
                r.cr3, r.cr4, r.efer, r.pkru);
  text += hex;
  for (const Path& path : fresh.path) {
    text += &path == fresh.path ? " path=" : " / ";
    for (unsigned i = 0; i < path.count; ++i) {
      std::snprintf(hex, sizeof hex, "%lx ", path.entry[i]);
      text += hex;
    }
  }
  return text + d.field + ": spec " + d.spec + ", unicorn " + d.unicorn;
}

Tally run(const Machine& machine, std::uint64_t seed, unsigned accesses) {
  constexpr unsigned kBatch = 500;
  UnicornClient client(TWINWALK_BINARY_DIR "/bin/twinwalk-unicorn");
  Spec spec;
  Tally tally;
  tally.translates = client.version().translates;
  std::vector<AccessQuery> queries(kBatch);
  std::vector<FreshOutcome> fresh(kBatch);
  for (unsigned done = 0; done < accesses; done += kBatch) {
    RandomGuest guest(machine, seed * 1'000'003 + done);
    guest.start(spec, client);
    for (unsigned n = 0; n < kBatch; ++n) {
      if (n % 2 == 1) guest.rewrite_one(spec);
      queries[n] = guest.query();
      fresh[n] = spec.fresh(0, queries[n]);
      ++tally.outcomes[fresh[n].kind];
      client.on_access(n, queries[n], fresh[n]);
    }
    const UnicornClient::Result result = client.finish([&](const UnicornDisagreement& d) {
      if (d.ledger.empty()) {
        tally.unknown.push_back(describe(queries[d.step], fresh[d.step], d));
      } else {
        ++tally.known[d.ledger];
      }
    });
    EXPECT_FALSE(result.died) << result.why;
    tally.checks += result.checks;
    tally.skipped += result.skipped;
  }
  return tally;
}

void expect_all_explained(const Tally& tally, unsigned accesses) {
  EXPECT_EQ(tally.unknown.size(), 0u);
  for (std::size_t i = 0; i < tally.unknown.size() && i < 12; ++i)
    ADD_FAILURE() << tally.unknown[i];
  EXPECT_EQ(tally.checks + tally.skipped, accesses);
  for (const auto& [kind, count] : tally.outcomes) {
    ::testing::Test::RecordProperty(std::string(name_of(kind)), std::to_string(count));
  }
}

Machine with(void (*change)(Machine&)) {
  Machine machine;
  change(machine);
  return machine;
}
Machine in(Mode mode) {
  Machine machine;
  machine.mode = mode;
  if (mode == Mode::k5Level) machine.features |= feature::kLa57;
  return machine;
}
Machine in(Mode mode, void (*change)(Machine&)) {
  Machine machine = in(mode);
  change(machine);
  return machine;
}

class Modes : public ::testing::TestWithParam<Mode> {};

TEST_P(Modes, TheEnginesOwnMachineAgreesButForRmw) {
  constexpr unsigned kAccesses = 100'000;
  const bool paging = GetParam() != Mode::kNone, long_mode = GetParam() >= Mode::k4Level;
  const Tally tally = run(in(GetParam()), 1, kAccesses);
  expect_all_explained(tally, kAccesses);
  // An old Unicorn cannot tell SMAP and what is fetched.
  EXPECT_GT(tally.checks, kAccesses * (tally.translates ? 3 : 1) / 4)
      << tally.skipped << " skipped";
  for (const auto& [id, count] : tally.known) EXPECT_EQ(id, "unicorn-rmw-reports-read") << count;
  // The mix must not be lopsided, or agreement means little.
  const auto count = [&](OutcomeKind kind) {
    const auto found = tally.outcomes.find(kind);
    return found == tally.outcomes.end() ? 0 : found->second;
  };
  EXPECT_GT(count(OutcomeKind::kOk), kAccesses / 5);
  EXPECT_GT(count(OutcomeKind::kMmio), kAccesses / 50);
  if (paging) {
    EXPECT_GT(count(OutcomeKind::kPageFault), kAccesses / 5);
  }
  if (long_mode) {
    EXPECT_GT(count(OutcomeKind::kGp), kAccesses / 200);
  }
}

INSTANTIATE_TEST_SUITE_P(All, Modes,
                         ::testing::Values(Mode::kNone, Mode::k32Bit, Mode::kPae, Mode::k4Level,
                                           Mode::k5Level),
                         [](const auto& tested) {
                           std::string name(name_of(tested.param));
                           std::erase(name, '-');
                           return name;
                         });

// Machines that Unicorn's one processor model is not: all that differs must stand in the ledger,
// and must occur.
struct OtherMachine {
  const char* name;
  Machine machine;
  std::vector<std::string> ledger;
};

void PrintTo(const OtherMachine& other, std::ostream* out) { *out << other.name; }

class OtherMachines : public ::testing::TestWithParam<OtherMachine> {};

TEST_P(OtherMachines, DifferOnlyByTheLedger) {
  constexpr unsigned kAccesses = 40'000;
  const std::vector<std::string>& wanted = GetParam().ledger;
  const Tally tally = run(GetParam().machine, 2, kAccesses);
  expect_all_explained(tally, kAccesses);
  for (const auto& [id, count] : tally.known) {
    EXPECT_TRUE(id == "unicorn-rmw-reports-read" ||
                std::find(wanted.begin(), wanted.end(), id) != wanted.end())
        << id << " " << count;
  }
  for (const std::string& id : wanted) EXPECT_GT(tally.known.count(id), 0u) << id;
}

void narrow(Machine& m) { m.maxphyaddr = 36; }
void wide(Machine& m) { m.maxphyaddr = m.host_maxphyaddr = 52; }
void no_1g(Machine& m) { m.features &= ~feature::k1G; }
void no_pse36(Machine& m) { m.features &= ~feature::kPse36; }
void amd(Machine& m) { m.vendor = Vendor::kAmd; }

INSTANTIATE_TEST_SUITE_P(
    All, OtherMachines,
    ::testing::Values(
        OtherMachine{"narrow", in(Mode::k4Level, narrow), {"unicorn-maxphyaddr-accepts"}},
        OtherMachine{"wide", in(Mode::k4Level, wide), {"unicorn-maxphyaddr-rejects"}},
        OtherMachine{"no1g", in(Mode::k4Level, no_1g), {"unicorn-has-1g-pages"}},
        OtherMachine{"amd", in(Mode::k4Level, amd), {"unicorn-is-intel"}},
        OtherMachine{"narrow5", in(Mode::k5Level, narrow), {"unicorn-maxphyaddr-accepts"}},
        OtherMachine{"wide5", in(Mode::k5Level, wide), {"unicorn-maxphyaddr-rejects"}},
        OtherMachine{"no1g5", in(Mode::k5Level, no_1g), {"unicorn-has-1g-pages"}},
        OtherMachine{
            "amd5", in(Mode::k5Level, amd), {"unicorn-is-intel", "unicorn-is-intel-in-pml5"}},
        OtherMachine{"narrowPae", in(Mode::kPae, narrow), {"unicorn-maxphyaddr-accepts"}},
        OtherMachine{"widePae", in(Mode::kPae, wide), {"unicorn-maxphyaddr-rejects"}},
        OtherMachine{"amdPae", in(Mode::kPae, amd), {"unicorn-pdpte-reserved-bits"}},
        OtherMachine{"narrow32", in(Mode::k32Bit, narrow), {"unicorn-pse36-has-40-bits"}},
        OtherMachine{"noPse36", in(Mode::k32Bit, no_pse36), {"unicorn-has-pse36"}}),
    [](const auto& tested) { return std::string(tested.param.name); });

TEST(Differential, LargeMemory) {
  constexpr unsigned kAccesses = 20'000;
  expect_all_explained(run(with([](Machine& m) { m.memory_mib = 1024; }), 3, kAccesses), kAccesses);
}

}  // namespace
}  // namespace twinwalk::oracle
