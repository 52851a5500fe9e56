// Every right at every level against a second predicate, written from the manual's
// sentences and not from walk.cc.

#include <gtest/gtest.h>

#include "oracle/testbed.h"

namespace twinwalk::oracle {
namespace {

constexpr std::uint64_t kGva = 0x5000;
constexpr std::uint64_t kFrame = 0x40000;

// SDM 3A §"Determination of Access Rights", sentence by sentence.
struct Case {
  bool user_page, writable, xd;  // of the translation
  bool wp, smep, smap, nxe, pke, key_ad, key_wd;
  bool cpl3, ac, implicit;
  AccessKind kind;
};

bool supervisor_mode(const Case& c) { return c.implicit || !c.cpl3; }

bool key_forbids(const Case& c) {
  if (!c.pke || !c.user_page || c.kind == AccessKind::kFetch) return false;
  if (c.key_ad) return true;
  const bool write = c.kind == AccessKind::kWrite || c.kind == AccessKind::kRmw;
  return write && c.key_wd && (!supervisor_mode(c) || c.wp);
}

bool data_read_ok(const Case& c) {
  if (!supervisor_mode(c)) return c.user_page;
  if (!c.user_page) return true;
  if (!c.smap) return true;
  return !c.implicit && c.ac;
}

bool allowed(const Case& c) {
  switch (c.kind) {
    case AccessKind::kRead:
      return data_read_ok(c) && !key_forbids(c);
    case AccessKind::kWrite:
    case AccessKind::kRmw:
      if (!supervisor_mode(c)) return c.user_page && c.writable && !key_forbids(c);
      if (c.wp && !c.writable) return false;
      return data_read_ok(c) && !key_forbids(c);
    case AccessKind::kFetch:
      if (c.nxe && c.xd) return false;
      if (!supervisor_mode(c)) return c.user_page;
      return !(c.smep && c.user_page);
  }
  return false;
}

std::uint32_t expected_code(const Case& c) {
  std::uint32_t ec = pfec::kP;
  if (c.kind == AccessKind::kWrite || c.kind == AccessKind::kRmw) ec |= pfec::kW;
  if (!supervisor_mode(c)) ec |= pfec::kU;
  if (c.kind == AccessKind::kFetch && (c.smep || c.nxe)) ec |= pfec::kI;
  if (key_forbids(c)) ec |= pfec::kPk;
  return ec;
}

AccessQuery query_for(const Case& c) {
  AccessQuery q;
  q.gva = kGva;
  q.kind = c.kind;
  q.implicit = c.implicit;
  q.registers.cr0 = (q.registers.cr0 & ~cr0::kWp) | (c.wp ? cr0::kWp : 0);
  q.registers.cr4 |=
      (c.smep ? cr4::kSmep : 0) | (c.smap ? cr4::kSmap : 0) | (c.pke ? cr4::kPke : 0);
  q.registers.efer = efer::kLme | efer::kLma | (c.nxe ? efer::kNxe : 0);
  q.registers.cpl = c.cpl3 ? 3 : 0;
  q.registers.ac = c.ac;
  q.registers.pkru = (c.key_ad ? 1u : 0) << 10 | (c.key_wd ? 1u : 0) << 11;  // key 5
  return q;
}

class Permissions : public ::testing::TestWithParam<unsigned> {
};  // the level that withholds rights

TEST_P(Permissions, EqualTheManualsSentences) {
  const unsigned level = GetParam();
  Testbed bed;
  unsigned checked = 0;
  for (unsigned bits = 0; bits < 1u << 13; ++bits) {
    Case c{};
    c.user_page = bits & 1, c.writable = bits & 2, c.xd = bits & 4;
    c.wp = bits & 8, c.smep = bits & 16, c.smap = bits & 32, c.nxe = bits & 64, c.pke = bits & 128;
    c.key_ad = bits & 256, c.key_wd = bits & 512;
    c.cpl3 = bits & 1024, c.ac = bits & 2048, c.implicit = bits & 4096;
    if (c.xd && !c.nxe) continue;  // then XD is reserved: another test
    if (!c.pke && (c.key_ad || c.key_wd))
      continue;  // PKRU is not looked at; one representative is enough
    bed.map(kGva, kFrame | kPwua | std::uint64_t{5} << pte::kPkeyShift);
    const std::uint64_t at = Testbed::entry_gpa(kGva, level);
    std::uint64_t entry = bed.spec.read_word(at);
    if (!c.user_page) entry &= ~pte::kU;
    if (!c.writable) entry &= ~pte::kW;
    if (c.xd) entry |= pte::kXd;
    bed.spec.write_word(at, entry);
    for (const AccessKind kind :
         {AccessKind::kRead, AccessKind::kWrite, AccessKind::kFetch, AccessKind::kRmw}) {
      c.kind = kind;
      if (kind == AccessKind::kFetch && c.implicit) continue;  // there is no implicit fetch
      const FreshOutcome f = bed.spec.fresh(0, query_for(c));
      ASSERT_EQ(f.kind == OutcomeKind::kOk, allowed(c))
          << "bits " << bits << " kind " << name_of(kind);
      if (!allowed(c)) {
        ASSERT_EQ(f.error_code, expected_code(c)) << "bits " << bits << " kind " << name_of(kind);
        ASSERT_EQ(f.cr2, kGva);
      } else {
        ASSERT_EQ(f.gpa[0], kFrame);
      }
      ++checked;
    }
  }
  EXPECT_GT(checked, 8000u);
}

INSTANTIATE_TEST_SUITE_P(EachLevel, Permissions, ::testing::Values(1u, 2u, 3u, 4u));

FreshOutcome read_with(Testbed& bed, unsigned level, std::uint64_t set, std::uint64_t clear = 0) {
  const std::uint64_t at = Testbed::entry_gpa(kGva, level);
  const std::uint64_t before = bed.spec.read_word(at);
  bed.spec.write_word(at, (before | set) & ~clear);
  AccessQuery q;
  q.gva = kGva;
  q.registers = bed.spec.registers(0);
  const FreshOutcome f = bed.spec.fresh(0, q);
  bed.spec.write_word(at, before);
  return f;
}

TEST(ReservedBits, AddressBitsAboveMaxphyaddrAtEveryLevel) {
  Testbed bed;
  bed.map(kGva, kFrame | kPwua);
  for (unsigned level = 1; level <= 4; ++level) {
    for (unsigned b = 40; b <= 51; ++b) {
      const FreshOutcome f = read_with(bed, level, bit(b));
      EXPECT_EQ(f.kind, OutcomeKind::kPageFault) << level << " bit " << b;
      EXPECT_EQ(f.error_code, pfec::kP | pfec::kRsvd);
    }
    EXPECT_EQ(read_with(bed, level, bit(52)).kind, OutcomeKind::kOk) << "bit 52 is ignored";
    EXPECT_EQ(read_with(bed, level, bit(51), pte::kP).error_code, 0u) << "P=0: nothing is reserved";
  }
}

TEST(ReservedBits, PageSizeInRootAndBit8ByVendor) {
  Machine amd;
  amd.vendor = Vendor::kAmd;
  for (const Machine& machine : {Machine{}, amd}) {
    Testbed bed(Profile::kKvm, machine);
    bed.map(kGva, kFrame | kPwua);
    EXPECT_EQ(read_with(bed, 4, pte::kPs).error_code, pfec::kP | pfec::kRsvd);
    const bool faults = machine.vendor == Vendor::kAmd;
    EXPECT_EQ(read_with(bed, 4, pte::kG).kind, faults ? OutcomeKind::kPageFault : OutcomeKind::kOk);
    EXPECT_EQ(read_with(bed, 2, pte::kG).kind, OutcomeKind::kOk);
  }
}

TEST(ReservedBits, OneGigabytePagesNeedTheFeature) {
  Machine without;
  without.features &= ~feature::k1G;
  for (const bool has : {true, false}) {
    Testbed bed(Profile::kKvm, has ? Machine{} : without);
    bed.map(kGva, kFrame | kPwua);
    bed.spec.write_word(Testbed::entry_gpa(kGva, 3), kPwua | pte::kPs);
    const FreshOutcome f =
        bed.spec.fresh(0, {kGva, 8, AccessKind::kRead, false, 0, bed.spec.registers(0)});
    EXPECT_EQ(f.kind, has ? OutcomeKind::kOk : OutcomeKind::kPageFault);
    if (has) EXPECT_EQ(f.gpa[0], kGva);
  }
}

TEST(ReservedBits, LowAddressBitsOfLargePagesExceptPat) {
  for (const unsigned level : {2u, 3u}) {
    Testbed bed;
    bed.map(kGva, kFrame | kPwua);
    bed.spec.write_word(Testbed::entry_gpa(kGva, level), kPwua | pte::kPs);
    for (unsigned b = 12; b < 12 + 9 * (level - 1); ++b) {
      const FreshOutcome f = read_with(bed, level, bit(b));
      EXPECT_EQ(f.kind, b == 12 ? OutcomeKind::kOk : OutcomeKind::kPageFault)
          << level << " bit " << b;
      if (b == 12) EXPECT_EQ(f.gpa[0], kGva) << "PAT is no address bit";
    }
  }
}

TEST(ReservedBits, ExecuteDisableWithoutNxe) {
  Testbed bed;
  bed.map(kGva, kFrame | kPwua);
  ASSERT_EQ(bed.mov(Reg::kEfer, efer::kLme | efer::kLma).kind, VerdictKind::kAgree);
  for (unsigned level = 1; level <= 4; ++level) {
    EXPECT_EQ(read_with(bed, level, pte::kXd).error_code, pfec::kP | pfec::kRsvd) << level;
  }
}

TEST(Canonical, BothHalvesAndTheEdge) {
  Testbed bed;
  bed.map(kGva, kFrame | kPwua);
  for (const std::uint64_t gva :
       {0x0000'8000'0000'0000u, 0xffff'7fff'ffff'ffffu, 0x0000'7fff'ffff'fffcu}) {
    const FreshOutcome f =
        bed.spec.fresh(0, {gva, 8, AccessKind::kRead, false, 0, bed.spec.registers(0)});
    EXPECT_EQ(f.kind, OutcomeKind::kGp) << std::hex << gva;
  }
  const FreshOutcome f = bed.spec.fresh(
      0, {0x0000'7fff'ffff'fff8, 8, AccessKind::kRead, false, 0, bed.spec.registers(0)});
  EXPECT_EQ(f.kind, OutcomeKind::kPageFault);
}

}  // namespace
}  // namespace twinwalk::oracle
