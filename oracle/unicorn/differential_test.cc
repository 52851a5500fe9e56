// Random tables, registers and accesses: the real engine against spec's fresh walk.

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "harness/trace/content.h"
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
// entry varies.
class RandomGuest {
 public:
  RandomGuest(const Machine& machine, std::uint64_t seed) : machine_(machine), random_(seed) {}

  void start(Spec& spec, UnicornClient& client) {
    spec.observe(&client);
    spec.reset(machine_, Profile::kKvm);
    for (unsigned level = 1; level <= 4; ++level) {
      for (unsigned table = 0; table < 2; ++table) {
        for (const unsigned index : kIndexes) rewrite(spec, level, table, index);
      }
    }
  }
  void rewrite_one(Spec& spec) {
    const auto level = 1 + static_cast<unsigned>(random_.below(4));
    rewrite(spec, level, static_cast<unsigned>(random_.below(2)), random_.of(kIndexes));
  }

  AccessQuery query() {
    AccessQuery q;
    q.kind = random_.of({AccessKind::kRead, AccessKind::kRead, AccessKind::kWrite,
                         AccessKind::kWrite, AccessKind::kFetch, AccessKind::kRmw});
    q.size = static_cast<std::uint8_t>(1u << random_.below(4));
    q.gva = address(q);
    q.value = store_stamp(static_cast<std::uint32_t>(random_.below(1u << 20)));
    q.registers = registers();
    return q;
  }

 private:
  static constexpr unsigned kIndexes[] = {0, 1, 5, 511};
  static std::uint64_t table_gpa(unsigned level, unsigned table) {
    return level == 4 ? kInitialCr3 + table * 0x1000 : 0x110000 + (2 * level + table) * 0x1000;
  }

  std::uint64_t address(const AccessQuery& q) {
    std::uint64_t gva = 0;
    for (unsigned level = 1; level <= 4; ++level)
      gva |= std::uint64_t{random_.of(kIndexes)} << (3 + 9 * level);
    if ((gva & bit(47)) != 0) gva |= ~(bit(48) - 1);
    if (random_.one_in(64)) gva ^= bit(48 + static_cast<unsigned>(random_.below(16)));
    if (q.kind == AccessKind::kFetch)
      return gva + 8 * random_.below(512) + (random_.one_in(4) ? random_.below(8) : 0);
    return gva + (random_.one_in(8) ? 4097 - q.size + random_.below(q.size) : random_.below(4096));
  }

  Registers registers() {
    Registers r = initial_registers(machine_);
    if (random_.one_in(3)) r.cr0 &= ~cr0::kWp;
    const auto maybe = [&](std::uint32_t feature, std::uint64_t& reg, std::uint64_t bits) {
      if (machine_.has(feature) && random_.one_in(2)) reg |= bits;
    };
    maybe(feature::kSmep, r.cr4, cr4::kSmep);
    maybe(feature::kSmap, r.cr4, cr4::kSmap);
    maybe(feature::kPku, r.cr4, cr4::kPke);
    maybe(feature::kPge, r.cr4, cr4::kPge);
    maybe(feature::kPcid, r.cr4, cr4::kPcide);
    if (random_.one_in(4)) r.efer &= ~efer::kNxe;
    if ((r.cr4 & cr4::kPke) != 0)
      r.pkru = random_.of({0u, 0x5555'5554u, 0xaaaa'aaa8u, 0x1b2e'4f90u});
    r.cr3 = table_gpa(4, static_cast<unsigned>(random_.below(2))) |
            ((r.cr4 & cr4::kPcide) != 0 ? random_.below(4) : 0);
    r.cpl = random_.one_in(2) ? 3 : 0;
    r.ac = random_.one_in(2);
    return r;
  }

  void rewrite(Spec& spec, unsigned level, unsigned table, unsigned index) {
    spec.write_word(table_gpa(level, table) + 8 * index, entry(level));
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
    const bool leaf = level == 1 || random_.one_in(level == 4 ? 60 : 10);
    e |= leaf ? leaf_bits(level) : table_gpa(level - 1, static_cast<unsigned>(random_.below(2)));
    if (level > 1 && leaf) e |= pte::kPs;
    e |= random_.below(2048) << 52;  // ignored bits and the protection key
    if (random_.one_in(40)) e |= bit(36 + static_cast<unsigned>(random_.below(16)));
    return e;
  }
  // A frame of the level's size, in memory more often than not; sometimes with a bit below its
  // size.
  std::uint64_t leaf_bits(unsigned level) {
    const unsigned shift = 3 + 9 * level;
    const std::uint64_t mib = machine_.memory_mib;
    std::uint64_t gpa = level == 1   ? 0x20'0000 + random_.below((mib - 2) << 8) * 0x1000
                        : level == 2 ? (1 + random_.below(mib / 2 - 1)) << 21
                                     : random_.below(4) << 30;
    if (random_.one_in(8)) gpa |= (random_.word() & (bit(34) - 1)) >> shift << shift | mib << 20;
    if (level > 1 && random_.one_in(16))
      gpa |= bit(12 + static_cast<unsigned>(random_.below(shift - 12)));
    return gpa;
  }

  Machine machine_;
  Random random_;
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
  std::snprintf(
      hex, sizeof hex,
      " gva=%lx cr0=%lx cr3=%lx cr4=%lx efer=%lx pkru=%x path=%lx %lx %lx %lx / %lx %lx %lx %lx: ",
      q.gva, r.cr0, r.cr3, r.cr4, r.efer, r.pkru, fresh.path[0].entry[0], fresh.path[0].entry[1],
      fresh.path[0].entry[2], fresh.path[0].entry[3], fresh.path[1].entry[0],
      fresh.path[1].entry[1], fresh.path[1].entry[2], fresh.path[1].entry[3]);
  return text + hex + d.field + ": spec " + d.spec + ", unicorn " + d.unicorn;
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

TEST(Differential, TheEnginesOwnMachineAgreesButForRmw) {
  constexpr unsigned kAccesses = 100'000;
  const Tally tally = run(Machine{}, 1, kAccesses);
  expect_all_explained(tally, kAccesses);
  // An old Unicorn cannot tell SMAP and what is fetched.
  EXPECT_GT(tally.checks, kAccesses * (tally.translates ? 3 : 1) / 4)
      << tally.skipped << " skipped";
  for (const auto& [id, count] : tally.known) EXPECT_EQ(id, "unicorn-rmw-reports-read") << count;
  // The mix must not be lopsided, or agreement means little.
  EXPECT_GT(tally.outcomes.at(OutcomeKind::kOk), kAccesses / 5);
  EXPECT_GT(tally.outcomes.at(OutcomeKind::kPageFault), kAccesses / 5);
  EXPECT_GT(tally.outcomes.at(OutcomeKind::kGp), kAccesses / 200);
  EXPECT_GT(tally.outcomes.at(OutcomeKind::kMmio), kAccesses / 50);
}

// Machines that Unicorn's one processor model is not: all that differs must stand in the ledger,
// and must occur.
struct OtherMachine {
  const char* name;
  Machine machine;
  const char* ledger;
};

Machine with(void (*change)(Machine&)) {
  Machine machine;
  change(machine);
  return machine;
}

void PrintTo(const OtherMachine& other, std::ostream* out) { *out << other.name; }

class OtherMachines : public ::testing::TestWithParam<OtherMachine> {};

TEST_P(OtherMachines, DifferOnlyByTheLedger) {
  constexpr unsigned kAccesses = 40'000;
  const Tally tally = run(GetParam().machine, 2, kAccesses);
  expect_all_explained(tally, kAccesses);
  for (const auto& [id, count] : tally.known) {
    EXPECT_TRUE(id == "unicorn-rmw-reports-read" || id == GetParam().ledger) << id << " " << count;
  }
  EXPECT_GT(tally.known.count(GetParam().ledger), 0u);
}

INSTANTIATE_TEST_SUITE_P(
    All, OtherMachines,
    ::testing::Values(
        OtherMachine{"narrow", with([](Machine& m) { m.maxphyaddr = 36; }),
                     "unicorn-maxphyaddr-accepts"},
        OtherMachine{"wide", with([](Machine& m) { m.maxphyaddr = m.host_maxphyaddr = 52; }),
                     "unicorn-maxphyaddr-rejects"},
        OtherMachine{"no1g", with([](Machine& m) { m.features &= ~feature::k1G; }),
                     "unicorn-has-1g-pages"},
        OtherMachine{"amd", with([](Machine& m) { m.vendor = Vendor::kAmd; }), "unicorn-is-intel"}),
    [](const auto& tested) { return std::string(tested.param.name); });

TEST(Differential, LargeMemory) {
  constexpr unsigned kAccesses = 20'000;
  expect_all_explained(run(with([](Machine& m) { m.memory_mib = 1024; }), 3, kAccesses), kAccesses);
}

}  // namespace
}  // namespace twinwalk::oracle
